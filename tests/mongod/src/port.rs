//! A loopback port that stays ours over restarts.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

use crate::Error;

/// Below the ports that Linux and macOS give to outgoing connections (from 32768 and 49152), so
/// that while a server is down no client's connection can occupy its port, not even a connection
/// that tries to reach this very server and, by TCP's simultaneous open, meets itself.
const FIRST: u16 = 20_000;
const END: u16 = 32_000;
const TRIES: u32 = 100;

/// A port nobody listens on now. Random, so that test processes started together seldom collide.
pub(crate) fn free() -> Result<u16, Error> {
    (0..TRIES)
        .map(|_| {
            let random = RandomState::new().build_hasher().finish() % u64::from(END - FIRST);
            FIRST + random as u16 // Exact: less than END - FIRST, which is a u16.
        })
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(Error::NoPort { first: FIRST, end: END, tries: TRIES })
}
