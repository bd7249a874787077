//! From a volfile to a running stack of xlators
