//! The listener: bounded in connections, headers and time, and for a node loopback only.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;

/// Connections at a time; who comes then waits in the listener's backlog.
const CONNECTIONS: usize = 4_096;
/// Bytes of a request's line and headers.
const HEADER_BYTES: usize = 16 * 1024;
/// How long a client may take to send them, and how long a connection may be idle.
const HEADERS_ARRIVE: Duration = Duration::from_secs(60);
/// How long a client may take nothing of an answer, or of a stream, before it is given up.
const TAKES_WITHIN: Duration = Duration::from_secs(300);
/// How long requests may go on after shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// How long to wait when the system is out of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Answer requests on `listener` until `shutdown`; what is under way then may go on for 10 s.
///
/// # Errors
/// Of kind `PermissionDenied` when the listener can be reached from other machines.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        let reason = format!(
            "refusing to serve on {address}: without real authentication this server listens on \
             loopback only; bind 127.0.0.1 or [::1]"
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    serve_anyone(listener, router, shutdown).await
}

/// [`serve`] for what asks nobody who they are, on any address.
///
/// # Errors
/// Those of the listener.
pub(crate) async fn serve_anyone(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let server = Arc::new(Server { router, stopping: CancellationToken::new() });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        // The semaphore is never closed.
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let server = Arc::clone(&server);
                    connections.spawn(async move {
                        server.answer(stream).await;
                        drop(place);
                    });
                }
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }
    drop(listener);
    server.stopping.cancel();
    let drained = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(open = connections.len(), "requests were still under way at shutdown");
        connections.shutdown().await;
    }
    Ok(())
}

struct Server {
    router: Router,
    stopping: CancellationToken,
}

impl Server {
    /// Serve one connection to its end.
    async fn answer(&self, stream: TcpStream) {
        // Answers are small and written whole: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        // Whoever reads slowly gets all of it; who reads nothing does not hold a place for ever.
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(TAKES_WITHIN));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_ARRIVE)
            .max_header_size(HEADER_BYTES)
            .serve_connection(
                TokioIo::new(Box::pin(stream)),
                TowerToHyperService::new(self.router.clone()),
            )
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(e) = ended {
            tracing::debug!(error = %e, "a connection ended early");
        }
    }
}
