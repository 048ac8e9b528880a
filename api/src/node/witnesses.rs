//! Asking witnesses to cosign what this node signs: the client's side of C2SP tlog-witness.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::future::join_all;
use reqwest::{Client, Response, StatusCode, Url, header, redirect};
use stella_domain::{
    checkpoint::WitnessKey,
    witness::{ANSWER_BYTES, SIZE_MEDIA_TYPE, Submission, cosignature_in, size_in},
};
use stella_ledger::{
    checkpoints::{
        cosigners::{Cosigned, Cosigners},
        proofs::{Noted, Proofs},
    },
    port::Finding,
};

/// How long a checkpoint waits for a witness.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// How long a witness that let a checkpoint wait in vain is left alone.
const RESTS_FOR: Duration = Duration::from_secs(30);
/// What a witness says about a refusal, as far as it is passed on.
const SAID_CHARS: usize = 600;

/// Where a witness is, and its key.
#[derive(Debug, Clone)]
pub struct WitnessAt {
    /// Its submission prefix: `add-checkpoint` is below it.
    pub url: Url,
    /// What its cosignatures are verified with.
    pub key: WitnessKey,
}

/// The witnesses of a node.
pub(super) struct Witnesses {
    /// Or why there is none, which each witness is then said to be left out for.
    http: Result<Client, String>,
    each: Vec<Witness>,
}

struct Witness {
    endpoint: Url,
    key: WitnessKey,
    known: Mutex<Known>,
}

/// What is believed of a witness; its answers set it right.
#[derive(Default)]
struct Known {
    /// Size of what it last cosigned.
    size: u64,
    rests_until: Option<Instant>,
}

/// Why a witness has not cosigned.
enum Trouble {
    /// It did not answer, or cannot now.
    Absent(String),
    /// It did, and does not want to.
    Refused(String),
}

impl Witnesses {
    /// Ask these; `None` where there are none.
    pub(super) fn ask(witnesses: &[WitnessAt]) -> Option<Arc<dyn Cosigners>> {
        if witnesses.is_empty() {
            return None;
        }
        let http = Client::builder().redirect(redirect::Policy::none()).no_proxy().build();
        let http = http.map_err(|error| format!("no HTTP can be spoken: {}", words(&error)));
        let each = witnesses.iter().map(|WitnessAt { url, key }| {
            let mut endpoint = url.clone();
            let path = format!("{}/add-checkpoint", url.path().trim_end_matches('/'));
            endpoint.set_path(&path);
            Witness { endpoint, key: key.clone(), known: Mutex::default() }
        });
        Some(Arc::new(Self { each: each.collect(), http }))
    }
}

#[async_trait]
impl Cosigners for Witnesses {
    async fn cosign(&self, signed: &Noted, proofs: &Proofs) -> Cosigned {
        let asked = self.each.iter().map(|witness| witness.cosign(&self.http, signed, proofs));
        let mut cosigned = Cosigned { note: signed.note.clone(), findings: vec![] };
        for (witness, outcome) in self.each.iter().zip(join_all(asked).await) {
            let (code, why) = match outcome {
                Ok(line) => {
                    cosigned.note.push_str(&line);
                    continue;
                }
                Err(Trouble::Absent(why)) => ("WITNESS_ABSENT", why),
                Err(Trouble::Refused(why)) => ("WITNESS_REFUSED", why),
            };
            let (name, at) = (witness.key.name(), &witness.endpoint);
            let message = format!("the witness {name} at {at} has not cosigned: {why}");
            cosigned.findings.push(Finding { code, blocks_writes: false, message });
        }
        cosigned
    }
}

impl Witness {
    /// Its cosignature, a line, in bounded time.
    async fn cosign(
        &self,
        http: &Result<Client, String>,
        signed: &Noted,
        proofs: &Proofs,
    ) -> Result<String, Trouble> {
        let http = http.as_ref().map_err(|why| Trouble::Absent(why.clone()))?;
        let slow = || {
            let (limit, rest) = (ANSWERS_WITHIN.as_secs(), RESTS_FOR.as_secs());
            Trouble::Absent(format!("no answer within {limit} s; it is asked again in {rest} s"))
        };
        if self.known().rests_until.is_some_and(|until| Instant::now() < until) {
            return Err(slow());
        }
        let answered = tokio::time::timeout(ANSWERS_WITHIN, self.ask(http, signed, proofs)).await;
        let is_slow = answered.is_err();
        self.known().rests_until = is_slow.then(|| Instant::now() + RESTS_FOR);
        answered.unwrap_or_else(|_| Err(slow()))
    }

    async fn ask(&self, http: &Client, signed: &Noted, proofs: &Proofs) -> Result<String, Trouble> {
        let size = signed.checkpoint.size;
        let mut old_size = self.known().size;
        // Once from where it is believed to be, once more from where it says that it is.
        for is_last in [false, true] {
            if old_size > size {
                return Err(Trouble::Refused(format!(
                    "it has cosigned {old_size} events of this ledger, more than the {size} that \
                     are here: another node is ahead, or this ledger is not the one that it knows"
                )));
            }
            let proof = match old_size {
                0 => vec![],
                _ => {
                    proofs
                        .consistency(&signed.checkpoint, old_size)
                        .await
                        .map_err(|error| {
                            Trouble::Absent(format!("nothing to prove with: {error}"))
                        })?
                        .1
                }
            };
            let submission = Submission { old_size, proof, note: signed.note.clone() };
            let request = http.post(self.endpoint.clone()).body(submission.to_text());
            let answer = request.send().await.map_err(|error| Trouble::Absent(words(&error)))?;
            let status = answer.status();
            let names_size = status == StatusCode::CONFLICT && is_size(&answer);
            let said = read(answer).await?;
            if status == StatusCode::OK {
                let line = cosignature_in(&said, &signed.note, &self.key)
                    .map_err(|error| Trouble::Refused(error.to_string()))?;
                self.known().size = size;
                return Ok(line);
            }
            match size_in(&said).filter(|_| names_size && !is_last) {
                Some(named) => old_size = named,
                None => return Err(refusal(status, &said)),
            }
        }
        // Both turns end above, one way or the other.
        Err(Trouble::Absent("it names another size each time".to_owned()))
    }

    /// A poisoned lock guards plain data that every holder leaves whole.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_size(answer: &Response) -> bool {
    let media_type = answer.headers().get(header::CONTENT_TYPE);
    media_type.and_then(|value| value.to_str().ok()) == Some(SIZE_MEDIA_TYPE)
}

/// The answer's text, as much of it as an answer may have.
async fn read(mut answer: Response) -> Result<String, Trouble> {
    let mut whole = vec![];
    while let Some(chunk) = answer.chunk().await.map_err(|error| Trouble::Absent(words(&error)))? {
        whole.extend_from_slice(&chunk);
        if whole.len() > ANSWER_BYTES {
            return Err(Trouble::Refused(format!("its answer has more than {ANSWER_BYTES} bytes")));
        }
    }
    Ok(String::from_utf8_lossy(&whole).into_owned())
}

/// `said` comes from another machine: it is passed on in part, and on one line.
fn refusal(status: StatusCode, said: &str) -> Trouble {
    let said: String = said
        .trim()
        .chars()
        .take(SAID_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let why = format!("it answered {status}: {said}");
    match status {
        _ if status.is_server_error() => Trouble::Absent(why),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Trouble::Absent(why),
        _ => Trouble::Refused(why),
    }
}

/// An error with what caused it, which reqwest leaves out.
fn words(error: &reqwest::Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(&format!(": {error}"));
        cause = error.source();
    }
    words
}
