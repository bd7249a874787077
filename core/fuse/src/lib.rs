//! The kernel's FUSE protocol: session, transports, interrupts, notifications
