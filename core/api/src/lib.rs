//! Everything an xlator compiles against
