//! Events as they come, over a WebSocket.

use futures::StreamExt as _;
use stella_api::types::{StreamItem, StreamMessage};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, Message, client::IntoClientRequest as _, http::HeaderValue, protocol::WebSocketConfig,
    },
};

use super::{BASE, Client};
use crate::failure::Failure;

/// Bytes that a message may have: an event's two parts and its header have fewer.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Events as they come. Dropping it closes the connection.
pub(crate) struct Stream {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    /// Follow `GET /runs/stream`; the query is the filter.
    pub(crate) async fn stream(&self, query: &[(&str, String)]) -> Result<Stream, Failure> {
        let mut url = self.server.clone();
        // Cannot fail from http, which is what the client speaks.
        let _ = url.set_scheme("ws");
        url.set_path(&format!("{BASE}/runs/stream"));
        url.query_pairs_mut().extend_pairs(query);
        let wrong = |error: String| Failure::failed(format!("cannot set up the stream: {error}"));
        let mut request =
            url.as_str().into_client_request().map_err(|error| wrong(error.to_string()))?;
        let token = HeaderValue::from_str(&format!("Bearer {}", self.token))
            .map_err(|_| Failure::usage("the token file holds no token"))?;
        request.headers_mut().insert("authorization", token);
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES));
        match connect_async_with_config(request, Some(config), true).await {
            Ok((socket, _)) => Ok(Stream { socket }),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                // Both crates speak of the same status in their own types.
                let status = reqwest::StatusCode::from_u16(response.status().as_u16())
                    .unwrap_or(reqwest::StatusCode::INTERNAL_SERVER_ERROR);
                Err(self.refusal(status, body))
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn lost(&self, error: &tungstenite::Error) -> Failure {
        let server = self.server.as_str().trim_end_matches('/');
        Failure::unavailable(format!("cannot follow the events of {server}: {error}")).try_this(
            "start one with `stella orch serve`, or name another with --server or STELLA_SERVER",
        )
    }
}

impl Stream {
    /// The next event that was asked for; `None` when the server closed the stream.
    pub(crate) async fn next_event(&mut self) -> Result<Option<StreamMessage>, Failure> {
        loop {
            match self.next().await? {
                Some(StreamItem::Event(message)) => return Ok(Some(*message)),
                Some(StreamItem::Link(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// What comes next; `None` when the server closed the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<StreamItem>, Failure> {
        while let Some(message) = self.socket.next().await {
            match message.map_err(|error| broken(&error))? {
                Message::Text(text) => {
                    return StreamItem::parse(&text).map(Some).map_err(|error| {
                        Failure::failed(format!("the stream sent something else: {error}"))
                    });
                }
                Message::Close(Some(frame)) if !frame.reason.is_empty() => {
                    let what = format!("the server ended the stream: {}", frame.reason);
                    return Err(Failure::unavailable(what));
                }
                Message::Close(_) => return Ok(None),
                // Pings are answered by the library as we read on.
                Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => {}
            }
        }
        Ok(None)
    }
}

fn broken(error: &tungstenite::Error) -> Failure {
    Failure::unavailable(format!("the stream broke off: {error}"))
        .try_this("go on after the last event that you have seen, with --from-seq")
}
