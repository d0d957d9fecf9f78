"""One file per revision; the program's own revision is the newest."""
