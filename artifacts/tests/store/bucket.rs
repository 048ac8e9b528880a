//! A bucket in this process: as much of S3 as the store speaks. It breaks off where it is told to.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, RANGE},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use stella_domain::artifact::ArtifactDigest;
use tokio::net::TcpListener;

/// Its name, which is the first part of every path.
pub(crate) const NAME: &str = "stella";
/// Whose signature it takes.
pub(crate) const KEY: &str = "a-key";
/// S3 takes no smaller part of an upload, but for the last one.
const PART_BYTES: usize = 5 * 1024 * 1024;
/// So few names on a page of a list that there is always a next one.
const PAGE: usize = 2;

/// What it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    Copy,
    Get,
    /// A get of some of the bytes.
    Range,
    Head,
    List,
    Delete,
    /// Begin an upload.
    Create,
    /// One of an upload's parts, from 1 on.
    Part(usize),
    Complete,
    Abort,
}

type Query = HashMap<String, String>;
type Body = UnsyncBoxBody<Bytes, io::Error>;

#[derive(Clone, Default)]
pub(crate) struct Bucket(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, BTreeMap<usize, Bytes>>,
    seen: Vec<Op>,
    breaks: Vec<Op>,
    refuses: Option<StatusCode>,
    is_gone: bool,
}

impl Bucket {
    pub(crate) fn serve(listener: std::net::TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let bucket = Self::default();
        let served = bucket.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let bucket = bucket.clone();
                let service = service_fn(move |request| bucket.clone().answer(request));
                let http = http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        served
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn object(&self, key: &str) -> Option<Bytes> {
        self.state().objects.get(key).cloned()
    }

    pub(crate) fn change(&self, key: &str, bytes: Option<&[u8]>) {
        let mut state = self.state();
        match bytes {
            Some(bytes) => state.objects.insert(key.into(), Bytes::copy_from_slice(bytes)),
            None => state.objects.remove(key),
        };
    }

    /// Uploads neither completed nor aborted: they are paid for, and seen by no list.
    pub(crate) fn uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// How often it was asked this.
    pub(crate) fn seen(&self, op: Op) -> usize {
        self.state().seen.iter().filter(|seen| **seen == op).count()
    }

    /// From here on these end in the middle of what is sent.
    pub(crate) fn break_off(&self, ops: &[Op]) {
        self.state().breaks = ops.to_vec();
    }

    /// From here on the answer is always this.
    pub(crate) fn refuse(&self, status: StatusCode) {
        self.state().refuses = Some(status);
    }

    /// From here on there is no answer: connections end with the first request.
    pub(crate) fn vanish(&self) {
        self.state().is_gone = true;
    }

    /// An error ends the connection.
    async fn answer(self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (head, mut body) = request.into_parts();
        let query = query(&head);
        let op = op(&head, &query);
        let breaks = {
            let mut state = self.state();
            state.seen.push(op);
            if state.is_gone {
                return Err(broken());
            }
            if let Some(status) = state.refuses {
                return Ok(refused(status, "Refused"));
            }
            state.breaks.contains(&op)
        };
        if breaks && !matches!(op, Op::Get | Op::Range) {
            // Of what is long this is only a beginning.
            let _ = body.frame().await;
            return Err(broken());
        }
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let signature = format!("AWS4-HMAC-SHA256 Credential={KEY}/");
        let signed = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if !signed.is_some_and(|signed| signed.starts_with(&signature)) {
            return Ok(refused(StatusCode::FORBIDDEN, "AccessDenied"));
        }
        let Some(key) = head.uri.path().strip_prefix(&format!("/{NAME}")) else {
            return Ok(refused(StatusCode::NOT_FOUND, "NoSuchBucket"));
        };
        let key = key.trim_start_matches('/');
        let mut state = self.state();
        Ok(match op {
            Op::Get | Op::Range | Op::Head => state.get(op, key, &head, breaks),
            Op::List => answer(state.list(&query)),
            Op::Delete => answer(state.delete(&body)),
            Op::Put => {
                let tag = state.put(key, body);
                Response::builder().header(ETAG, tag).body(whole("")).unwrap()
            }
            Op::Copy => {
                let from = head.headers["x-amz-copy-source"].to_str().unwrap();
                let from = from.strip_prefix(&format!("{NAME}/")).unwrap();
                let Some(bytes) = state.objects.get(from).cloned() else {
                    return Ok(no_such_key());
                };
                let tag = state.put(key, bytes);
                answer(format!("<CopyObjectResult><ETag>{tag}</ETag></CopyObjectResult>"))
            }
            Op::Create => {
                let id = format!("{key}-{}", state.seen.len()).replace('/', "-");
                state.uploads.insert(id.clone(), BTreeMap::new());
                let id = format!("<UploadId>{id}</UploadId>");
                answer(format!(
                    "<InitiateMultipartUploadResult>{id}</InitiateMultipartUploadResult>"
                ))
            }
            Op::Part(n) => {
                let tag = tag(&body);
                let Some(parts) = state.uploads.get_mut(&query["uploadId"]) else {
                    return Ok(refused(StatusCode::NOT_FOUND, "NoSuchUpload"));
                };
                parts.insert(n, body);
                Response::builder().header(ETAG, tag).body(whole("")).unwrap()
            }
            Op::Complete => state.complete(key, &query["uploadId"], &body),
            Op::Abort => {
                state.uploads.remove(&query["uploadId"]);
                Response::builder().status(StatusCode::NO_CONTENT).body(whole("")).unwrap()
            }
        })
    }
}

impl State {
    fn put(&mut self, key: &str, bytes: Bytes) -> String {
        let tag = tag(&bytes);
        self.objects.insert(key.into(), bytes);
        tag
    }

    fn get(&self, op: Op, key: &str, head: &Parts, breaks: bool) -> Response<Body> {
        let Some(all) = self.objects.get(key) else { return no_such_key() };
        let mut answer = Response::builder().header(ETAG, tag(all));
        let mut bytes = all.clone();
        if op == Op::Range {
            let range = head.headers[RANGE].to_str().unwrap().strip_prefix("bytes=").unwrap();
            let (from, to) = range.split_once('-').unwrap();
            bytes = all.slice(from.parse::<usize>().unwrap()..=to.parse().unwrap());
            answer = answer
                .status(StatusCode::PARTIAL_CONTENT)
                .header(CONTENT_RANGE, format!("bytes {range}/{}", all.len()));
        }
        let answer = answer.header(CONTENT_LENGTH, bytes.len());
        let body = match op {
            Op::Head => whole(""),
            _ if breaks => half(bytes),
            _ => whole(bytes),
        };
        answer.body(body).unwrap()
    }

    fn list(&self, query: &Query) -> String {
        let of = |name: &str| query.get(name).map_or("", String::as_str);
        let (prefix, delimiter, after) = (of("prefix"), of("delimiter"), of("continuation-token"));
        let mut entries = BTreeMap::new();
        for (key, bytes) in &self.objects {
            let Some(rest) = key.strip_prefix(prefix) else { continue };
            match rest.split_once(delimiter) {
                Some((folder, _)) if !delimiter.is_empty() => {
                    let folder = format!("{prefix}{folder}{delimiter}");
                    let entry = format!("<Prefix>{folder}</Prefix>");
                    entries.insert(folder, format!("<CommonPrefixes>{entry}</CommonPrefixes>"));
                }
                _ => {
                    let size = bytes.len();
                    let entry = format!(
                        "<Contents><Key>{key}</Key><Size>{size}</Size>\
                         <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                    );
                    entries.insert(key.clone(), entry);
                }
            }
        }
        let mut left = entries.into_iter().filter(|(name, _)| name.as_str() > after).peekable();
        let mut listed = String::new();
        let mut last = String::new();
        for (name, entry) in left.by_ref().take(PAGE) {
            listed += &entry;
            last = name;
        }
        if left.peek().is_some() {
            listed += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
        }
        format!("<ListBucketResult>{listed}</ListBucketResult>")
    }

    fn delete(&mut self, body: &[u8]) -> String {
        let mut deleted = String::new();
        for key in elements(body, "Key") {
            self.objects.remove(&key);
            deleted += &format!("<Deleted><Key>{key}</Key></Deleted>");
        }
        format!("<DeleteResult>{deleted}</DeleteResult>")
    }

    fn complete(&mut self, key: &str, id: &str, body: &[u8]) -> Response<Body> {
        let Some(parts) = self.uploads.get(id) else {
            return refused(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        let named = elements(body, "PartNumber").into_iter().zip(elements(body, "ETag"));
        let named: Option<Vec<Bytes>> = named
            .map(|(n, named)| {
                parts.get(&n.parse().unwrap()).filter(|part| named == tag(part)).cloned()
            })
            .collect();
        let Some(named) = named else { return refused(StatusCode::BAD_REQUEST, "InvalidPart") };
        if named.iter().rev().skip(1).any(|part| part.len() < PART_BYTES) {
            return refused(StatusCode::BAD_REQUEST, "EntityTooSmall");
        }
        self.uploads.remove(id);
        let tag = self.put(key, named.concat().into());
        let tag = format!("<ETag>{tag}</ETag>");
        answer(format!("<CompleteMultipartUploadResult>{tag}</CompleteMultipartUploadResult>"))
    }
}

fn query(head: &Parts) -> Query {
    let pairs = head.uri.query().unwrap_or_default().split('&');
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    // Nothing else of what the store asks is escaped.
    pairs.map(|(name, value)| (name.into(), value.replace("%2F", "/"))).collect()
}

fn op(head: &Parts, query: &Query) -> Op {
    let has = |name| query.contains_key(name);
    match head.method {
        Method::PUT if has("uploadId") => Op::Part(query["partNumber"].parse().unwrap()),
        Method::PUT if head.headers.contains_key("x-amz-copy-source") => Op::Copy,
        Method::PUT => Op::Put,
        Method::HEAD => Op::Head,
        Method::GET if has("list-type") => Op::List,
        Method::GET if head.headers.contains_key(RANGE) => Op::Range,
        Method::GET => Op::Get,
        Method::POST if has("uploads") => Op::Create,
        Method::POST if has("uploadId") => Op::Complete,
        Method::POST if has("delete") => Op::Delete,
        Method::DELETE if has("uploadId") => Op::Abort,
        _ => panic!("not spoken here: {} {}", head.method, head.uri),
    }
}

/// What is between the tags of this name.
fn elements(xml: &[u8], name: &str) -> Vec<String> {
    let xml = str::from_utf8(xml).unwrap().replace("&quot;", "\"");
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&begin).skip(1).map(|rest| rest.split_once(&end).unwrap().0.to_owned()).collect()
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", ArtifactDigest::of(bytes))
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn half(bytes: Bytes) -> Body {
    let first = stream::iter([Ok(Frame::data(bytes.slice(..bytes.len() / 2)))]);
    let end = stream::once(async {
        // What comes before it is sent meanwhile.
        tokio::task::yield_now().await;
        Err(broken())
    });
    StreamBody::new(first.chain(end)).boxed_unsync()
}

fn broken() -> io::Error {
    io::Error::other("it breaks off, as it was told to")
}

fn answer(xml: String) -> Response<Body> {
    Response::new(whole(xml))
}

fn no_such_key() -> Response<Body> {
    refused(StatusCode::NOT_FOUND, "NoSuchKey")
}

fn refused(status: StatusCode, code: &str) -> Response<Body> {
    let body = format!("<Error><Code>{code}</Code></Error>");
    Response::builder().status(status).body(whole(body)).unwrap()
}
