"""Asks a broker one question, in a few bytes, without a client that would log, retry and keep threads."""

import socket
import struct

METADATA_KEY, METADATA_VERSION = 3, 1  # the oldest version that can ask for no topic at all; Kafka 4 still speaks it
CORRELATION_ID = 1
CLIENT_ID = b"narrows-probe"
TIMEOUT_S = 2.0


def has_brokers(host: str, port: int) -> bool:
    """Whether a broker answers at an address and its cluster has a live broker.

    Source:
        Kafka protocol guide, "Metadata API": request header v1, Metadata request and response v1.
    """
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
            connection.sendall(_frame(_metadata_request()))
            return _count_brokers(_receive(connection)) > 0
    except (OSError, struct.error):
        return False


def _metadata_request() -> bytes:
    header = struct.pack(">hhih", METADATA_KEY, METADATA_VERSION, CORRELATION_ID, len(CLIENT_ID)) + CLIENT_ID
    no_topics = struct.pack(">i", 0)
    return header + no_topics


def _frame(message: bytes) -> bytes:
    return struct.pack(">i", len(message)) + message


def _receive(connection: socket.socket) -> bytes:
    (size,) = struct.unpack(">i", _read(connection, size=4))
    return _read(connection, size=size)


def _read(connection: socket.socket, *, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise ConnectionError("the broker closed the connection")
        received += piece
    return received


def _count_brokers(response: bytes) -> int:
    _correlation_id, brokers = struct.unpack_from(">ii", response)
    return int(brokers)
