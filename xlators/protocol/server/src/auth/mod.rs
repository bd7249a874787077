//! Who may attach: by address, by name and password, by certificate.
