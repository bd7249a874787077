//! A brick over the network.
