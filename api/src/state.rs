//! The router's state: one shared [`App`], and the end of what outlives its request.

use std::{ops::Deref, sync::Arc};

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app::App;

/// The router's state; cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState(Arc<Inner>);

struct Inner {
    app: App,
    closing: CancellationToken,
    _closes: DropGuard,
}

impl AppState {
    pub(crate) fn new(app: App) -> Self {
        let closing = app.stop.child_token();
        let _closes = closing.clone().drop_guard();
        Self(Arc::new(Inner { app, closing, _closes }))
    }

    /// Cancelled when the node stops, or when the router is gone. What goes on after its request, or
    /// never ends by itself, as streams do, keeps this and not the state, so that it ends with the
    /// server.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.0.closing.clone()
    }
}

impl Deref for AppState {
    type Target = App;
    fn deref(&self) -> &App {
        &self.0.app
    }
}
