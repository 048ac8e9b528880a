//! `events.ndjson` on all cores.
//!
//! One thread reads and puts things in order. As many others as there are cores each take a piece
//! through all that is expensive: check its lines, then add it to the file's digests. Digests are
//! sequential by nature, so for these a thread waits its turn; checking is not, and takes longer. A piece
//! stays in the cache of its core meanwhile. Memory is bounded by the pieces under way.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{
        Condvar, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use sha2::{Digest as _, Sha256};
use stella_domain::hash::Hash32;

use super::chunk::Checked;
use crate::{
    manifest::{FileDigest, WindowTimes},
    piece::Pieces,
};

/// Check every piece of what `reader` gives, and hand them to `absorb` in their order.
///
/// # Errors
/// What `absorb` answers, which ends the work, or that reading failed.
pub(super) fn check<E: From<io::Error>>(
    reader: &mut dyn Read,
    window: WindowTimes,
    mut absorb: impl FnMut(&mut Checked) -> Result<(), E>,
) -> Result<FileDigest, E> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (jobs, queue) = sync_channel(threads);
    let crew = Crew {
        queue: Mutex::new(queue),
        window,
        sha256: Turns::new(Sha256::new()),
        blake3: Turns::new(blake3::Hasher::new()),
    };
    let mut bytes = 0;
    thread::scope(|scope| {
        // Dropped first however this ends: then the threads come to their end.
        let jobs = jobs;
        let _stop = StopWhenDropped(&crew);
        for _ in 0..threads {
            scope.spawn(|| crew.work());
        }
        let mut pieces = Pieces::new(reader);
        let mut pending = VecDeque::new();
        let mut take = |pending: &mut VecDeque<Receiver<Checked>>| {
            let Some(checked) = pending.pop_front() else { return Ok(vec![]) };
            let mut checked = checked.recv().map_err(|_| thread_ended())?;
            bytes += checked.chunk.len() as u64;
            absorb(&mut checked)?;
            Ok::<_, E>(checked.chunk)
        };
        for number in 0.. {
            let Some(piece) = pieces.next()? else { break };
            let (answer, checked) = sync_channel(1);
            jobs.send(Job { number, piece, answer }).map_err(|_| thread_ended())?;
            pending.push_back(checked);
            if pending.len() > 2 * threads {
                pieces.reuse(take(&mut pending)?);
            }
        }
        while !pending.is_empty() {
            take(&mut pending)?;
        }
        Ok::<_, E>(())
    })?;
    let (sha256, blake3) = (crew.sha256.into_value(), crew.blake3.into_value());
    let (sha256, blake3) = sha256.zip(blake3).ok_or_else(thread_ended)?;
    Ok(FileDigest {
        blake3: Hash32::from(*blake3.finalize().as_bytes()),
        bytes,
        sha256: Hash32::from(<[u8; 32]>::from(sha256.finalize())),
    })
}

/// A thread panics only by a defect of this program; the scope hands the panic on.
fn thread_ended() -> io::Error {
    io::Error::other("a thread of the verifier ended")
}

/// A piece to be checked, and who waits for it.
struct Job {
    number: u64,
    piece: Vec<u8>,
    answer: SyncSender<Checked>,
}

/// What the threads share.
struct Crew {
    queue: Mutex<Receiver<Job>>,
    window: WindowTimes,
    sha256: Turns<Sha256>,
    blake3: Turns<blake3::Hasher>,
}

impl Crew {
    fn work(&self) {
        // Should this thread panic, nobody waits for its turn.
        let stop = StopWhenDropped(self);
        while let Some(Job { number, piece, answer }) = self.next_job() {
            let checked = Checked::of(piece, self.window);
            let added = self.sha256.take(number, |hasher| hasher.update(&checked.chunk))
                && self.blake3.take(number, |hasher| _ = hasher.update(&checked.chunk));
            if !added {
                return;
            }
            // Nobody waits for it when an earlier piece did not hold.
            let _ = answer.send(checked);
        }
        // There is no more to do, but others may be at it.
        std::mem::forget(stop);
    }

    fn next_job(&self) -> Option<Job> {
        self.queue.lock().ok()?.recv().ok()
    }
}

/// Ends all turns.
struct StopWhenDropped<'a>(&'a Crew);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.sha256.stop();
        self.0.blake3.stop();
    }
}

/// A value that pieces are added to, one after the other.
struct Turns<T> {
    /// The number whose turn it is, `None` when there are no more turns.
    value: Mutex<(Option<u64>, T)>,
    changed: Condvar,
}

impl<T> Turns<T> {
    fn new(value: T) -> Self {
        Self { value: Mutex::new((Some(0), value)), changed: Condvar::new() }
    }

    /// Wait for the turn of `number`, and add to the value; `false` when it will not come.
    fn take(&self, number: u64, add: impl FnOnce(&mut T)) -> bool {
        let Ok(guard) = self.value.lock() else { return false };
        let others = |(turn, _): &mut (Option<u64>, T)| turn.is_some_and(|turn| turn != number);
        let Ok(mut guard) = self.changed.wait_while(guard, others) else { return false };
        let (turn, value) = &mut *guard;
        if turn.is_none() {
            return false;
        }
        add(value);
        *turn = Some(number + 1);
        self.changed.notify_all();
        true
    }

    fn stop(&self) {
        if let Ok(mut guard) = self.value.lock() {
            guard.0 = None;
        }
        self.changed.notify_all();
    }

    fn into_value(self) -> Option<T> {
        self.value.into_inner().ok().map(|(_, value)| value)
    }
}
