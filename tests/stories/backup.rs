//! A ledger that went back in time is noticed: the node knows what it has acknowledged.

use std::{fs, path::Path};

use harness::{server::TestServer, stella};
use serde_json::json;

/// Copy the ledger's file and what SQLite keeps beside it; what else is in `to` goes.
fn copy_ledger(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_restored_older_backup_is_noticed() {
    let mut server = TestServer::start().await;
    let spec = json!({"id": "one", "steps": [{"id": "a", "plugin": "core", "action": "noop"}]});
    server.client.register(&spec).await;
    server.client.run(&json!({"dagId": "one"})).await;
    server.stop().await;
    let backup = server.scratch("backup");
    copy_ledger(&server.data_dir(), Path::new(&backup));

    server.restart().await;
    let run = server.client.run(&json!({"dagId": "one"})).await;
    // The projections have seen it.
    let path = format!("/runs/{}?minSeq={}", run["runId"].as_str().unwrap(), run["seq"]);
    server.client.get(&path).await.ok();
    server.stop().await;
    copy_ledger(Path::new(&backup), &server.data_dir());
    let dir = server.data_dir();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", dir.to_str().unwrap()];
    stella::run(&serve, 1).await;
}
