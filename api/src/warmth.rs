//! When workers were last asked to load their plugins again.

use std::sync::Arc;

use stella_domain::time::Timestamp;
use tokio::sync::watch;

/// The newest such request since this server started; cheap to clone.
///
/// Kept in memory only. A worker that has seen another time than this one, or none, loads its
/// plugins once more, which is never wrong: after a restart nothing is asked for, and nothing that
/// was asked for is asked for twice.
#[derive(Clone, Default)]
pub struct Warmth(Arc<watch::Sender<Option<Timestamp>>>);

impl Warmth {
    /// Ask all workers: whoever waits for work is answered, and told. Gives what they are told, `now`
    /// or a little later: it has to be later than what they were told before.
    pub fn ask(&self, now: Timestamp) -> Timestamp {
        let mut at = now;
        self.0.send_modify(|asked_at| {
            at = asked_at.map_or(now, |before| now.max(before.plus_ms(1)));
            *asked_at = Some(at);
        });
        at
    }

    /// What workers are told.
    pub fn asked_at(&self) -> Option<Timestamp> {
        *self.0.borrow()
    }

    /// Ends when somebody asks after this call.
    pub fn asked_again(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut asked = self.0.subscribe();
        async move {
            if asked.changed().await.is_err() {
                // Nobody is left who could ask.
                std::future::pending().await
            }
        }
    }
}
