//! What a plugin writes to stderr, on its way to the server: bounded, also while the server is away.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stella_domain::limits::LOG_BYTES;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{backoff::Backoff, lease::LeaseError, step::Step};

/// Bytes that wait for the server at most.
const WAITING: usize = 1024 * 1024;
/// Bytes of the newest output that are kept when what comes before has to be left out.
const TAIL: usize = 64 * 1024;
/// Room that is kept for them and for the line that says so.
const RESERVE: usize = TAIL + 64;
/// Bytes of one message to the server.
const PIECE: usize = 256 * 1024;
/// How long what was written waits for more, so that a line is not a message.
const GATHER: Duration = Duration::from_millis(200);

/// The log of one execution.
#[derive(Debug, Default)]
pub struct StepLog {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that the server has.
    sent: u64,
    /// What follows them.
    waiting: VecDeque<u8>,
    /// What there was no room for: bytes left out, and the newest.
    left_out: u64,
    tail: VecDeque<u8>,
    /// The end of all that was written.
    last: VecDeque<u8>,
    has_ended: bool,
}

impl StepLog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Add what was read.
    pub fn push(&self, bytes: &[u8]) {
        self.state().push(bytes);
        self.changed.notify_one();
    }

    /// Nothing is added any more.
    pub fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        state.settle();
        drop(state);
        self.changed.notify_one();
    }

    /// The next bytes for the server, and where they begin; empty when it has all so far.
    pub fn unsent(&self) -> (u64, Vec<u8>) {
        let state = self.state();
        (state.sent, state.waiting.iter().take(PIECE).copied().collect())
    }

    /// The server has the first `bytes` of what was unsent.
    pub fn sent(&self, bytes: usize) {
        let mut state = self.state();
        let bytes = bytes.min(state.waiting.len());
        state.waiting.drain(..bytes);
        state.sent += bytes as u64;
        state.settle();
    }

    fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// The last line that is not blank, for an error message; at most 300 characters.
    pub fn last_line(&self) -> Option<String> {
        let mut state = self.state();
        let text = String::from_utf8_lossy(state.last.make_contiguous());
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        Some(line.chars().take(300).collect())
    }

    /// Hand it over until it has ended and the server has it, or takes no more.
    pub(crate) async fn ship(&self, step: &Step<'_>) {
        let mut backoff = Backoff::default();
        loop {
            let (offset, bytes) = self.unsent();
            if bytes.is_empty() {
                if self.has_ended() {
                    return;
                }
                self.changed.notified().await;
                if !self.has_ended() {
                    // The end need not wait.
                    let _ = timeout(GATHER, self.ended()).await;
                }
                continue;
            }
            let length = bytes.len();
            let token = &step.lease.token;
            match step.source.append_log(step.worker_id, token, offset, bytes).await {
                Ok(()) => {
                    self.sent(length);
                    backoff = Backoff::default();
                }
                Err(LeaseError::Unavailable(reason)) => {
                    tracing::debug!(%token, reason, "a log has to wait");
                    sleep(backoff.next_pause()).await;
                }
                Err(error) => {
                    tracing::warn!(%token, %error, "the rest of a log is not kept");
                    return;
                }
            }
        }
    }

    async fn ended(&self) {
        while !self.has_ended() {
            self.changed.notified().await;
        }
    }
}

impl State {
    fn push(&mut self, bytes: &[u8]) {
        const LAST: usize = 4 * 1024;
        keep_last(&mut self.last, bytes, LAST);
        self.tail.extend(bytes);
        self.settle();
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    /// Let what there was no room for wait for the server too, once there is.
    fn settle(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let line = match self.left_out {
            0 => String::new(),
            bytes => format!("\n[{bytes} bytes left out here]\n"),
        };
        let more = line.len() + self.tail.len();
        let (room, limit) = match self.has_ended {
            // The reserve is for this.
            true => (WAITING + RESERVE, LOG_BYTES),
            false => (WAITING, LOG_BYTES - RESERVE),
        };
        let all = usize::try_from(self.sent).unwrap_or(usize::MAX) + self.waiting.len() + more;
        if self.waiting.len() + more <= room && all <= limit {
            self.waiting.extend(line.as_bytes());
            self.waiting.append(&mut self.tail);
            self.left_out = 0;
        }
    }
}

fn keep_last(kept: &mut VecDeque<u8>, bytes: &[u8], most: usize) {
    kept.extend(&bytes[bytes.len().saturating_sub(most)..]);
    let over = kept.len().saturating_sub(most);
    kept.drain(..over);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(log: &StepLog) -> Vec<u8> {
        let mut whole = vec![];
        loop {
            let (offset, bytes) = log.unsent();
            if bytes.is_empty() {
                return whole;
            }
            assert_eq!(offset, whole.len() as u64);
            log.sent(bytes.len());
            whole.extend(bytes);
        }
    }

    #[test]
    fn what_the_server_takes_is_whole() {
        let log = StepLog::default();
        let mut sent = vec![];
        for i in 0..5_000_u32 {
            log.push(format!("line {i}\n").as_bytes());
            if i % 7 == 0 {
                let (_, bytes) = log.unsent();
                log.sent(bytes.len());
                sent.extend(bytes);
            }
        }
        log.end();
        let (_, bytes) = log.unsent();
        sent.extend(bytes);
        let whole: String = (0..5_000).map(|i| format!("line {i}\n")).collect();
        assert_eq!(sent, whole.as_bytes());
    }

    #[test]
    fn while_the_server_is_away_the_beginning_and_the_end_stay() {
        let log = StepLog::default();
        let chunk = [b'x'; 8 * 1024];
        log.push(b"first\n");
        for _ in 0..1_000 {
            log.push(&chunk);
        }
        log.push(b"\nlast\n");
        log.end();
        assert_eq!(log.last_line().as_deref(), Some("last"));
        let whole = all(&log);
        assert!(whole.len() <= WAITING + RESERVE, "{}", whole.len());
        assert!(whole.starts_with(b"first\n"));
        assert!(whole.ends_with(b"\nlast\n"));
        let text = String::from_utf8_lossy(&whole);
        assert_eq!(text.matches("bytes left out here]").count(), 1);
    }

    #[test]
    fn a_log_keeps_within_its_limit_and_its_end_stays() {
        let log = StepLog::default();
        let chunk = [b'x'; 8 * 1024];
        let mut whole = vec![];
        for _ in 0..(LOG_BYTES / chunk.len() + 100) {
            log.push(&chunk);
            whole.extend(self::some(&log));
        }
        log.push(b"\nlast\n");
        log.end();
        loop {
            let some = self::some(&log);
            if some.is_empty() {
                break;
            }
            whole.extend(some);
        }
        assert!(whole.len() <= LOG_BYTES, "{}", whole.len());
        assert!(whole.ends_with(b"\nlast\n"));
        assert!(whole.len() > LOG_BYTES - 2 * RESERVE);
    }

    fn some(log: &StepLog) -> Vec<u8> {
        let (_, bytes) = log.unsent();
        log.sent(bytes.len());
        bytes
    }
}
