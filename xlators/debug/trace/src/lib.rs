//! debug/trace: logs every fop
