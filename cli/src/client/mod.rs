//! The way to a server: HTTP with the access token, answers as the wire types, failures as
//! [`Failure`].

mod artifact;
pub(crate) mod leases;
mod log;
mod stream;
mod text;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::{Serialize, de::DeserializeOwned};
use stella_api::types::{Page, Problem};

pub(crate) use self::{log::LogPiece, stream::Stream};
use crate::{exit::Exit, failure::Failure};

/// Where every route of the orchestrator begins.
const BASE: &str = "/api/v1/orchestrator";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole answer may take; the server gives up a little earlier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a large body may take on its way.
const BODY_TIMEOUT: Duration = Duration::from_secs(600);
/// The same for what reads the whole ledger.
const LONG_ANSWER_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// How long an answer that is taken piece by piece may pause.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes that a JSON answer may have: a page of the largest events has fewer.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// Pages of a list that are fetched at most.
const MAX_PAGES: usize = 10_000;

/// Which server, and who we are to it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// The server to talk to.
    #[arg(
        long,
        env = "STELLA_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7787"
    )]
    server: Url,
    /// The file that holds the server's access token.
    #[arg(
        long,
        env = "STELLA_TOKEN_FILE",
        value_name = "FILE",
        default_value = "./stella-data/token"
    )]
    token_file: PathBuf,
}

impl ServerArgs {
    /// The file that holds the server's access token.
    pub(crate) fn token_file(&self) -> &std::path::Path {
        &self.token_file
    }
}

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    token: String,
}

/// An answer that is no failure.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) body: T,
    /// `Idempotent-Replayed: true`: the request had been carried out before.
    pub(crate) replayed: bool,
}

impl Client {
    /// Read the token; nothing is sent yet.
    pub(crate) fn new(args: &ServerArgs) -> Result<Self, Failure> {
        if args.server.scheme() != "http" {
            let what = format!("--server {}: only http:// to this machine is spoken", args.server);
            return Err(Failure::usage(what));
        }
        let path = args.token_file.display();
        let token = std::fs::read_to_string(&args.token_file).map_err(|error| {
            Failure::unavailable(format!("cannot read the access token in {path}: {error}"))
                .try_this(
                    "start a server here with `stella orch serve`, or name the file that it \
                     printed with --token-file or STELLA_TOKEN_FILE",
                )
        })?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // The token goes to the named server and to nobody else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| Failure::failed(format!("cannot set up HTTP: {error}")))?;
        Ok(Self { http, server: args.server.clone(), token: token.trim().to_owned() })
    }

    /// A client of a server at `addr` whose token is in `token_file`.
    pub(crate) fn at(addr: std::net::SocketAddr, token_file: PathBuf) -> Result<Self, Failure> {
        let server = Url::parse(&format!("http://{addr}"))
            .map_err(|error| Failure::failed(format!("{addr}: {error}")))?;
        Self::new(&ServerArgs { server, token_file })
    }

    /// `GET` a resource.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        let request = self.request(Method::GET, path).timeout(ANSWER_TIMEOUT).query(query);
        Ok(self.answer(request).await?.body)
    }

    /// `POST` nothing to what reads the whole ledger before it answers.
    pub(crate) async fn post_long<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = self.request(Method::POST, path).timeout(LONG_ANSWER_TIMEOUT);
        Ok(self.answer(request).await?.body)
    }

    /// `POST` a JSON body to what may take as long.
    pub(crate) async fn post_long_with<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, path).timeout(LONG_ANSWER_TIMEOUT);
        Ok(self.answer(request.json(body)).await?.body)
    }

    /// `POST` a JSON body.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        body: &impl Serialize,
    ) -> Result<Answer<T>, Failure> {
        let request = self.request(Method::POST, path).timeout(ANSWER_TIMEOUT);
        self.answer(request.query(query).json(body)).await
    }

    /// `POST` a JSON body, and keep a refusal apart from a server that does not answer as it should.
    pub(crate) async fn try_post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Result<T, Problem>, Failure> {
        self.try_answer(self.request(Method::POST, path).timeout(ANSWER_TIMEOUT).json(body)).await
    }

    /// The same with a body of another kind.
    pub(crate) async fn try_post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        media_type: &str,
        body: reqwest::Body,
    ) -> Result<Result<T, Problem>, Failure> {
        let request = self.request(Method::POST, path).timeout(BODY_TIMEOUT).query(query);
        self.try_answer(request.header("content-type", media_type).body(body)).await
    }

    /// `GET` a resource whose body is taken piece by piece, likewise.
    pub(crate) async fn try_open(&self, path: &str) -> Result<Result<Response, Problem>, Failure> {
        let request = self.request(Method::GET, path).timeout(BODY_TIMEOUT);
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok(Ok(response));
        }
        self.problem(response).await.map(Err)
    }

    async fn try_answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Result<T, Problem>, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            let bytes = self.body(response).await?;
            return self.parse(&bytes).map(Ok);
        }
        self.problem(response).await.map(Err)
    }

    async fn problem(&self, response: Response) -> Result<Problem, Failure> {
        let status = response.status();
        let bytes = self.body(response).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.refusal(status, &bytes))
    }

    /// `POST` text of another media type.
    pub(crate) async fn post_text<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        media_type: &str,
        body: String,
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, path).query(query).timeout(ANSWER_TIMEOUT);
        let request = request.header("content-type", media_type).body(body);
        Ok(self.answer(request).await?.body)
    }

    /// Items of a list, page after page, up to `limit`.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        limit: usize,
    ) -> Result<Vec<T>, Failure> {
        let (mut items, mut page_token) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let mut query = query.to_vec();
            let page_size = (limit - items.len()).min(stella_api::types::MAX_PAGE_SIZE as usize);
            query.push(("pageSize", page_size.to_string()));
            query.extend(page_token.map(|token| ("pageToken", token)));
            let page: Page<T> = self.get(path, &query).await?;
            items.extend(page.items);
            page_token = page.next_page_token;
            if page_token.is_none() || items.len() >= limit {
                break;
            }
        }
        items.truncate(limit);
        Ok(items)
    }

    /// `GET` a resource whose body is taken piece by piece.
    pub(crate) async fn open(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Response, Failure> {
        let send = self.send(self.request(Method::GET, path).query(query));
        match tokio::time::timeout(PAUSE_TIMEOUT, send).await {
            Ok(response) => response,
            Err(_) => Err(self.silent()),
        }
    }

    /// The next piece of such a body; `None` when it is whole.
    pub(crate) async fn next_piece(
        &self,
        response: &mut Response,
    ) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        match tokio::time::timeout(PAUSE_TIMEOUT, response.chunk()).await {
            Ok(piece) => piece.map_err(|error| self.unreachable(error)),
            Err(_) => Err(self.silent()),
        }
    }

    fn silent(&self) -> Failure {
        let (server, seconds) = (&self.server, PAUSE_TIMEOUT.as_secs());
        Failure::unavailable(format!("{server} has sent nothing for {seconds} s"))
            .try_this("see how it is: `stella orch health`")
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // A server behind a path prefix is not foreseen: what the URL has there is replaced.
        let mut url = self.server.clone();
        url.set_path(&format!("{BASE}{path}"));
        self.http.request(method, url).bearer_auth(&self.token)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Answer<T>, Failure> {
        let response = self.send(request).await?;
        let replayed =
            response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        let bytes = self.body(response).await?;
        Ok(Answer { body: self.parse(&bytes)?, replayed })
    }

    fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(bytes).map_err(|error| {
            let server = &self.server;
            Failure::failed(format!("{server} gave an answer of another shape: {error}"))
                .try_this("use the same release on both sides: `stella --version`")
        })
    }

    /// Send it; an answer that is a failure becomes one.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.body(response).await?;
        Err(self.refusal(status, &bytes))
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> Failure {
        let problem = serde_json::from_slice::<Problem>(body);
        let failure = problem.map(Failure::from_problem).unwrap_or_else(|_| {
            let exit = if status.is_server_error() { Exit::Unavailable } else { Exit::Failed };
            Failure::new(exit, format!("{} answered {status}", self.server))
                .try_this("check that --server names a Stella server")
        });
        match status {
            StatusCode::UNAUTHORIZED => failure.try_this(
                "name the token file that the server printed with --token-file or \
                 STELLA_TOKEN_FILE",
            ),
            _ => failure,
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER_BYTES {
                let what = format!("the answer of {} is too large", self.server);
                return Err(Failure::failed(what).try_this("ask for less at a time"));
            }
        }
        Ok(bytes)
    }

    /// No answer, or not a whole one.
    fn unreachable(&self, error: reqwest::Error) -> Failure {
        let error = error.without_url();
        // The innermost cause is the one that helps: "connection refused".
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let server = self.server.as_str().trim_end_matches('/');
        Failure::unavailable(format!("cannot reach the server at {server}: {cause}")).try_this(
            "start one with `stella orch serve`, or name another with --server or STELLA_SERVER",
        )
    }
}

/// A path whose last segment is an id; ids need no escaping.
pub(crate) fn path(collection: &str, id: impl std::fmt::Display, rest: &str) -> String {
    format!("/{collection}/{id}{rest}")
}
