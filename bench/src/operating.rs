//! Rows (k) to (o): what an operator leans on. Remote workers, a long queue, many who watch, schedules,
//! runs of many steps.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{Failure, Place, figures::Figures, process, queued, runs, server::Server};

/// Processes that work off steps beside the server, and what each carries out at a time.
const WORKERS: usize = 4;
const AT_A_TIME: usize = 32;
/// How long anything may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(600);

/// How much there is to do.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Sizes {
    /// Steps in the queue whose depth is asked for.
    #[arg(long, default_value_t = 1_000_000)]
    queued: u64,
    /// Clients that stream what happens.
    #[arg(long, default_value_t = 1_000)]
    subscribers: u64,
    /// Runs that happen meanwhile.
    #[arg(long, default_value_t = 200)]
    streamed_runs: u64,
    /// Fires of a schedule; at most 10,000.
    #[arg(long, default_value_t = 5_000)]
    fires: u64,
    /// Items of the large run; the small ones have a hundredth.
    #[arg(long, default_value_t = 10_000)]
    items: u64,
}

/// All of them, each on what it needs, in a ledger that is thrown away.
pub(crate) async fn measure(
    stella: &Path,
    place: &Place,
    sizes: Sizes,
    time: Duration,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let dir = place.dir.path();
    let server = Server::start(stella, &place.uri, dir, 0).await?;
    server.register_chain("three", 3).await?;
    remote_workers(stella, &server, place, time, figures).await?;
    server.stop().await?;
    let server = Server::start(stella, &place.uri, dir, 64).await?;
    subscribers(&server, place, sizes, figures).await?;
    fires(&server, place, sizes.fires, figures).await?;
    items(&server, place, sizes.items, figures).await?;
    server.stop().await?;
    queued::depth(place, 1_000, figures).await?;
    queued::depth(place, sizes.queued, figures).await
}

/// Row (k): three-step runs that workers in processes of their own work off.
async fn remote_workers(
    stella: &Path,
    server: &Server,
    place: &Place,
    time: Duration,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let dir = place.dir.path();
    let workers = (0..WORKERS).map(|i| RemoteWorker::start(stella, server, dir, i));
    let workers = workers.collect::<Result<Vec<_>, _>>()?;
    // Once for all of them to be there.
    runs::run_load(server, 64, Duration::from_millis(500), None).await?;
    let pids: Vec<u32> = workers.iter().map(|worker| worker.0.id()).chain([server.pid()]).collect();
    let cpu = || pids.iter().map(|pid| process::cpu_seconds(*pid)).sum::<Result<f64, _>>();
    let before = cpu()?;
    let load = runs::run_load(server, 64, time, None).await?;
    let (steps, spent) = (load.runs as f64 * 3.0, cpu()? - before);
    let rate = steps / load.elapsed.as_secs_f64();
    figures.put("(k) steps through 4 worker processes", "steps/s", place.name, rate);
    let each = spent * 1000.0 / steps;
    figures.put("(k) CPU a step, server and workers", "ms", place.name, each);
    let p50 = runs::percentile_ms(&load.latency, 50.0);
    figures.put("(k) run p50, 64 clients", "ms", place.name, p50);
    Ok(())
}

/// A `stella orch worker start`. Dropping it ends it.
struct RemoteWorker(Child);

impl RemoteWorker {
    fn start(stella: &Path, server: &Server, dir: &Path, i: usize) -> Result<Self, Failure> {
        let child = Command::new(stella)
            .args(["orch", "worker", "start", "--name", &format!("bench-{i}")])
            .args(["--concurrency", &AT_A_TIME.to_string(), "--server", &server.url()])
            .arg("--token-file")
            .arg(dir.join("token"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for RemoteWorker {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Row (m): events delivered to clients of which each gets all of them.
async fn subscribers(
    server: &Server,
    place: &Place,
    sizes: Sizes,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let (mut readers, mut taken) = (vec![], vec![]);
    for _ in 0..sizes.subscribers {
        let mut stream = server.client().await?.stream("/runs/stream").await?;
        // What comes first says that it is connected.
        stream.next().await?;
        let count = Arc::new(AtomicU64::new(0));
        taken.push(Arc::clone(&count));
        readers.push(tokio::spawn(async move {
            while let Ok(Some(events)) = stream.next().await {
                count.fetch_add(events, Ordering::Relaxed);
            }
        }));
    }
    let started = Instant::now();
    let mut client = server.client().await?;
    for _ in 0..sizes.streamed_runs {
        started_run(&mut client, &json!({"dagId": "three", "inputs": {}}), "?wait=30s").await?;
    }
    let recorded = started.elapsed();
    let events = sizes.streamed_runs * crate::EVENTS_PER_RUN as u64;
    until("every subscriber has every event", async || {
        Ok(taken.iter().all(|count| count.load(Ordering::Relaxed) >= events).then_some(()))
    })
    .await?;
    let delivered = (events * sizes.subscribers) as f64 / started.elapsed().as_secs_f64();
    let name = format!("(m) events to {} subscribers", sizes.subscribers);
    figures.put(&name, "events/s", place.name, delivered);
    let behind = (started.elapsed() - recorded).as_secs_f64() * 1000.0;
    figures.put("(m) the last subscriber behind the last run", "ms", place.name, behind);
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

/// Row (n): fires of a schedule, each with its run, until all runs have ended.
async fn fires(
    server: &Server,
    place: &Place,
    fires: u64,
    figures: &mut Figures,
) -> Result<(), Failure> {
    server.register_chain("one", 1).await?;
    let mut client = server.client().await?;
    // Over before it was made: only what is asked for fires.
    let schedule = json!({
        "scheduleId": "bench", "dagId": "one", "every": "1s",
        "startAt": "2026-01-01T00:00:00Z",
    });
    expect(&mut client, "/schedules", &schedule).await?;
    // Nothing but the backfill is to fire.
    let reason = json!({ "reason": "only its backfill is measured" });
    expect(&mut client, "/schedules/bench:pause", &reason).await?;
    let (h, m, s) = (fires / 3600, fires / 60 % 60, fires % 60);
    let backfill = json!({
        "from": "2026-01-01T00:00:00Z", "to": format!("2026-01-01T{h:02}:{m:02}:{s:02}Z"),
        "cap": fires, "concurrency": 64,
    });
    let started = Instant::now();
    let asked = expect(&mut client, "/schedules/bench:backfill", &backfill).await?;
    let path = format!("/schedules/bench?minSeq={}", asked["seq"]);
    let client = tokio::sync::Mutex::new(client);
    let backfill = until("the backfill is over", async || {
        let (_, body) = client.lock().await.call(Method::GET, &path, "").await?;
        let schedule: Value = serde_json::from_slice(&body)?;
        let backfill = &schedule["backfill"];
        Ok((backfill["underWay"] == false).then(|| backfill.clone()))
    })
    .await?;
    if backfill["done"] != fires || backfill["hadRun"] != 0 {
        return Err(format!("{fires} fires were to come: {backfill}").into());
    }
    let rate = fires as f64 / started.elapsed().as_secs_f64();
    figures.put("(n) fires of a schedule, to the end of their runs", "fires/s", place.name, rate);
    Ok(())
}

/// Row (o): what an item costs in a run of many, against one in a run of few.
async fn items(
    server: &Server,
    place: &Place,
    items: u64,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let few = (items / 100).max(1);
    let spec = json!({
        "id": "each", "inputs": {"type": "object"},
        "steps": [{
            "id": "all", "plugin": "core", "action": "noop",
            "forEach": "${inputs.items}", "parallelism": 64,
        }],
    });
    let mut client = server.client().await?;
    expect(&mut client, "/dags", &spec).await?;
    let mut costs = vec![];
    for (count, times) in [(few, items / few), (items, 1)] {
        let list: Vec<u64> = (0..count).map(|i| i % 10).collect();
        let body = json!({"dagId": "each", "inputs": {"items": list}});
        let (started, before) = (Instant::now(), process::cpu_seconds(server.pid())?);
        for _ in 0..times {
            started_run(&mut client, &body, "?wait=60s").await?;
        }
        let spent = process::cpu_seconds(server.pid())? - before;
        let each = |seconds: f64| seconds * 1000.0 / (count * times) as f64;
        let name = format!("(o) an item of {count}");
        figures.put(&name, "ms", place.name, each(started.elapsed().as_secs_f64()));
        figures.put(&format!("(o) CPU of an item of {count}"), "ms", place.name, each(spent));
        costs.push(each(spent));
    }
    if let [few, many] = costs[..] {
        let name = "(o) CPU of an item, many ÷ few";
        // The kernel counts in hundredths of a second: nothing of so few items.
        figures.put(name, "", place.name, if few > 0.0 { many / few } else { f64::NAN });
    }
    Ok(())
}

/// Start a run and wait until it has succeeded.
async fn started_run(
    client: &mut crate::http::Client,
    body: &Value,
    query: &str,
) -> Result<(), Failure> {
    let (_, answer) = client.call(Method::POST, &format!("/runs{query}"), body.to_string()).await?;
    let mut run: Value = serde_json::from_slice(&answer)?;
    let deadline = Instant::now() + PATIENCE;
    while run["status"] == "running" && Instant::now() < deadline {
        let path = format!("/runs/{}?wait=60s", run["runId"].as_str().unwrap_or_default());
        let (_, answer) = client.call(Method::GET, &path, "").await?;
        run = serde_json::from_slice(&answer)?;
    }
    if run["status"] == "succeeded" { Ok(()) } else { Err(format!("a run: {run}").into()) }
}

async fn expect(
    client: &mut crate::http::Client,
    path: &str,
    body: &Value,
) -> Result<Value, Failure> {
    let (status, answer) = client.call(Method::POST, path, body.to_string()).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let is_well = matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED);
    if is_well { Ok(answer) } else { Err(format!("POST {path}: {status} {answer}").into()) }
}

async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("{what}: not within {} s", PATIENCE.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
