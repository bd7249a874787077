//! What the tests of xlators share
