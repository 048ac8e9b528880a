//! Random salts, drawn from the system many at a time: a system call per event would cost more
//! than hashing it.

use stella_domain::hash::Salt;

const DRAWN_AT_ONCE: usize = 256;

#[derive(Default)]
pub(super) struct Salts {
    drawn: Vec<[u8; 16]>,
}

impl Salts {
    /// A fresh salt.
    ///
    /// # Errors
    /// The system's reason when it gives no randomness; nothing may be written then.
    pub(super) fn next(&mut self) -> Result<Salt, String> {
        if let Some(salt) = self.drawn.pop() {
            return Ok(Salt::from(salt));
        }
        let mut bytes = [0; 16 * DRAWN_AT_ONCE];
        getrandom::fill(&mut bytes).map_err(|e| format!("no randomness for salts: {e}"))?;
        self.drawn.extend(bytes.as_chunks::<16>().0);
        self.drawn.pop().map(Salt::from).ok_or_else(|| "no randomness for salts".to_owned())
    }
}
