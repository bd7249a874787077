//! The words by which both ends name what carries bytes, as GlusterFS has them.

use brickwork_api::option_enum;

option_enum! {
    /// What carries bytes.
    pub enum Transport {
        /// TCP.
        Tcp = "tcp",
        /// What `transport.address-family` says; TCP by default.
        Socket = "socket",
        /// A unix socket.
        Unix = "unix",
    }
}

option_enum! {
    /// A family of addresses.
    pub enum Family {
        /// IPv4.
        Inet = "inet",
        /// IPv6; a brick that listens on it is reached by IPv4 too.
        Inet6 = "inet6",
        /// A unix socket.
        Unix = "unix",
    }
}
