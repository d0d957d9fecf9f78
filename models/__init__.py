"""The science: arrays in, arrays out; it never imports monitor, opens no socket, reads no clock."""
