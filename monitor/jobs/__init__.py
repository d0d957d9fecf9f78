"""Work that is done on a schedule or on demand, one file a job. Nothing here knows a scheduler."""
