//! Clients that start runs and take no for an answer only for a while: whatever happens to the
//! server, each run token is sent again until it is acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use serde_json::json;
use stella_domain::ids::RunId;
use tokio::task::JoinSet;

use crate::{LOOK_AGAIN, PATIENCE, client::Client, until};

/// A run that was acknowledged.
pub struct Started {
    /// Which.
    pub run_id: RunId,
    /// Of an event of the run; `None` where an earlier request had started it already.
    pub seq: Option<u64>,
}

/// Load on a server, until it is told to [stop](Load::stop).
pub struct Load {
    clients: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// Run tokens that were acknowledged, and what they made.
    acknowledged: Mutex<BTreeMap<String, Started>>,
}

impl Load {
    /// `clients` of them start runs of `dag_id`, one after the other; of some they wait for the end.
    pub fn start(client: &Client, clients: usize, dag_id: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let mut running = JoinSet::new();
        for i in 0..clients {
            let (client, shared) = (client.clone(), Arc::clone(&shared));
            let dag_id = dag_id.to_owned();
            running.spawn(async move {
                for n in 0.. {
                    if shared.stopping.load(Ordering::Relaxed) {
                        return;
                    }
                    let token = format!("client-{i}-{n}");
                    let started = start_run(&client, &dag_id, &token).await;
                    shared.acknowledged.lock().unwrap().insert(token, started);
                }
            });
        }
        Self { clients: running, shared }
    }

    /// How many runs were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.lock().unwrap().len()
    }

    /// Wait until `more` runs were acknowledged from now on.
    pub async fn until_more(&self, more: usize) {
        let wanted = self.acknowledged() + more;
        until("more runs are acknowledged", async || (self.acknowledged() >= wanted).then_some(()))
            .await;
    }

    /// Start nothing new; what was sent is sent until it is acknowledged. Answers all of it.
    pub async fn stop(mut self) -> BTreeMap<String, Started> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let ended = async {
            while let Some(client) = self.clients.join_next().await {
                client.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("every start is acknowledged");
        std::mem::take(&mut *self.shared.acknowledged.lock().unwrap())
    }
}

async fn start_run(client: &Client, dag_id: &str, token: &str) -> Started {
    // Acknowledged as soon as it is recorded, or when it has ended.
    let path = if fastrand::bool() { "/runs" } else { "/runs?wait=5s" };
    let body = json!({"dagId": dag_id, "runToken": token}).to_string().into_bytes();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let body = Some(("application/json", body.clone()));
        match client.try_send(reqwest::Method::POST, path, body).await {
            Ok(answer) if answer.is_success() => {
                let run = answer.json();
                let run_id = run["runId"].as_str().unwrap().parse().unwrap();
                let seq = (run["replayed"] != json!(true)).then(|| run["seq"].as_u64().unwrap());
                return Started { run_id, seq };
            }
            Ok(answer) => {
                // Nothing but "not now" is an answer to a good request.
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.header("retry-after").is_some(), "{answer:?}");
            }
            // Killed before it could answer.
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    panic!("the start of {token} was never acknowledged");
}
