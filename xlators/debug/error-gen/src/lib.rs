//! debug/error-gen: fails fops on purpose
