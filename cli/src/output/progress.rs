//! Progress of what takes long, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr, which is cleared when it is dropped. Where stderr is no terminal it draws
/// nothing.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar over `total` events; 0 when that is not known yet.
    pub(crate) fn events(what: &'static str, total: u64) -> Self {
        Self::new(what, total, "{msg} {wide_bar} {human_pos}/{human_len} events {per_sec} {eta}")
    }

    /// A bar over `total` bytes.
    pub(crate) fn bytes(what: &'static str, total: u64) -> Self {
        Self::new(what, total, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    /// A count of bytes whose total is not known.
    pub(crate) fn unknown_bytes(what: &'static str) -> Self {
        Self::new(what, 0, "{msg} {spinner} {bytes} {bytes_per_sec}")
    }

    /// Something whose progress is not known.
    pub(crate) fn waiting(what: &'static str) -> Self {
        Self::new(what, 0, "{msg} {spinner} {elapsed}")
    }

    fn new(what: &'static str, total: u64, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// `done` of `total` are done.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// This many more are done.
    pub(crate) fn add(&self, more: u64) {
        self.0.inc(more);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
