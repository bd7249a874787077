//! storage/posix: serves a folder in GlusterFS's on-disk format
