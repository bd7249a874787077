//! For whom a fop of a client is done: squashing and groups.
