//! Who may have cached what, and who has to be told of a change.
