//! TLS for both ends of a connection.
