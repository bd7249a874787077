//! debug/io-stats: counts, errors and latencies of every fop
