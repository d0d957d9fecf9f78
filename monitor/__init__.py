"""The running service: it knows Kafka, SQL and time; it never imports torch."""
