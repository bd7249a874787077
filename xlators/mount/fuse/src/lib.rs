//! mount/fuse: turns the kernel's requests into fops
