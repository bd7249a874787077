//! debug/null: hands every fop to its child; the xlator to copy
