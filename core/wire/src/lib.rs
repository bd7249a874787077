#![doc = include_str!("../README.md")]

pub mod connection;
pub mod frame;
pub mod fuzz;
pub mod login;
pub mod message;
pub mod outbox;
pub mod payload;
pub mod repeat;
pub mod stream;
pub mod tls;
pub mod transport;
