#![doc = include_str!("../README.md")]

pub mod admin;
pub mod rules;
pub mod table;
