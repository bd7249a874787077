//! An append log.
