//! A lean HTTP client, one connection each: what is measured is the server.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::SendRequest,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Failure;

pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    authorization: String,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr, token: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let authorization = format!("Bearer {}", token.trim());
        Ok(Self { sender, host: addr.to_string(), authorization })
    }

    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = self.request(method, path);
        let request =
            request.header("content-type", "application/json").body(Full::new(body.into()))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, body))
    }

    /// Follow Server-Sent Events.
    pub(crate) async fn stream(mut self, path: &str) -> Result<Events, Failure> {
        let request = self.request(Method::GET, path).header("accept", "text/event-stream");
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::default())?).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("GET {path}: {}", response.status()).into());
        }
        Ok(Events { body: response.into_body(), begun: [0; 5], length: 0, _sender: self.sender })
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("/api/v1/orchestrator{path}"))
            .header("host", &self.host)
            .header("authorization", &self.authorization)
    }
}

/// A stream of Server-Sent Events, which are counted and not read.
pub(crate) struct Events {
    body: Incoming,
    /// How the line begins that is being taken, and its length.
    begun: [u8; 5],
    length: usize,
    /// Without it the connection is closed.
    _sender: SendRequest<Full<Bytes>>,
}

impl Events {
    /// The next piece: how many events begin in it; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<u64>, Failure> {
        let Some(frame) = self.body.frame().await else { return Ok(None) };
        let mut events = 0;
        for byte in frame?.data_ref().map(|bytes| &bytes[..]).unwrap_or_default() {
            if let Some(place) = self.begun.get_mut(self.length) {
                *place = *byte;
            }
            self.length += 1;
            if *byte == b'\n' {
                events += u64::from(self.length > 5 && &self.begun == b"data:");
                self.length = 0;
            }
        }
        Ok(Some(events))
    }
}
