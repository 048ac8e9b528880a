//! What weakens the ledger's guarantees in this deployment.

use std::collections::BTreeSet;

use mongodb::bson::{Bson, Document, doc};

use super::{
    CHECKPOINTS, MongoLedger, TILES,
    setup::{has_keys, is_ascending, is_stream_index},
};
use crate::port::{Finding, LedgerError};

/// Actions that undo what was recorded, or what keeps it unique, or that give the right to.
const TOO_WIDE: [&str; 10] = [
    "update",
    "remove",
    "dropCollection",
    "dropDatabase",
    "dropIndex",
    "collMod",
    "convertToCapped",
    "renameCollectionSameDB",
    "grantRole",
    "anyAction",
];

impl MongoLedger {
    pub(super) async fn all_findings(&self) -> Result<Vec<Finding>, LedgerError> {
        let mut findings = self.set_up_findings().await?;
        let status =
            self.command("admin", doc! { "connectionStatus": 1, "showPrivileges": true }).await?;
        let collections = [self.collection.name(), TILES, CHECKPOINTS];
        findings.extend(privileges(&status, self.database.name(), &collections));
        Ok(findings)
    }

    /// Those that may refuse writing.
    pub(super) async fn set_up_findings(&self) -> Result<Vec<Finding>, LedgerError> {
        let hello = self.command("admin", doc! { "hello": 1 }).await?;
        let mut findings: Vec<Finding> = topology(&hello).into_iter().collect();
        let indexes = self.indexes().await?;
        let namespace = self.collection.namespace();
        for (key, found) in [
            ("{_id: 1}", indexes.iter().any(|index| has_keys(index, &doc! { "_id": 1 }))),
            ("{tenant: 1, stream: 1, streamVersion: 1}", indexes.iter().any(is_stream_index)),
        ] {
            if !found {
                findings.push(Finding {
                    code: "INDEX_MISSING",
                    blocks_writes: true,
                    message: format!(
                        "the collection {namespace} lacks the unique index {key}: run \
                         `stella orch ledger init`"
                    ),
                });
            }
        }
        if is_router(&hello) {
            let config = self.collection.client().database("config");
            let collections = config.collection::<Document>("collections");
            let sharded = collections.find_one(doc! { "_id": namespace.to_string() });
            let sharded = self.within("a read", async { sharded.await }).await?;
            findings.extend(sharded.as_ref().and_then(shard_key));
        }
        Ok(findings)
    }
}

fn is_router(hello: &Document) -> bool {
    hello.get_str("msg") == Ok("isdbgrid")
}

fn topology(hello: &Document) -> Option<Finding> {
    let sound = is_router(hello) || hello.get_str("setName").is_ok();
    (!sound).then(|| Finding {
        code: "NOT_A_REPLICA_SET",
        blocks_writes: true,
        message: "this MongoDB is a standalone server, which knows neither majority writes nor \
                  linearizable reads: start it with --replSet, and initiate the set; one member \
                  is enough"
            .to_owned(),
    })
}

/// `sharded`: the collection's document in `config.collections`.
fn shard_key(sharded: &Document) -> Option<Finding> {
    let key = sharded.get_document("key").ok()?;
    let sound = key.len() == 1 && key.get("tenant").is_some_and(is_ascending);
    (!sound).then(|| Finding {
        code: "SHARD_KEY",
        blocks_writes: true,
        message: format!(
            "the ledger is sharded by {key}, so that a tenant's commits lie on several shards and \
             no unique index spans them: reshard it by {{tenant: 1}}"
        ),
    })
}

/// `status`: the answer to `connectionStatus` with `showPrivileges`.
fn privileges(status: &Document, database: &str, collections: &[&str]) -> Option<Finding> {
    let auth = status.get_document("authInfo").ok()?;
    if auth.get_array("authenticatedUsers").is_ok_and(Vec::is_empty) {
        return Some(Finding {
            code: "AUTH_DISABLED",
            blocks_writes: false,
            message: "this MongoDB asks nobody who they are: everybody who reaches it can change \
                      the ledger; enable --auth and give this node a user of its own"
                .to_owned(),
        });
    }
    let granted = auth.get_array("authenticatedUserPrivileges").ok()?;
    let granted: Vec<&Document> = granted.iter().filter_map(Bson::as_document).collect();
    let (mut actions, mut places) = (BTreeSet::new(), vec![]);
    for collection in collections {
        let covering = granted.iter().filter(|grant| covers(grant, database, collection));
        let found: BTreeSet<&str> = covering
            .filter_map(|grant| grant.get_array("actions").ok())
            .flatten()
            .filter_map(Bson::as_str)
            .filter(|action| TOO_WIDE.contains(action))
            .collect();
        if !found.is_empty() {
            places.push(format!("{database}.{collection}"));
            actions.extend(found);
        }
    }
    (!places.is_empty()).then(|| Finding {
        code: "PRIVILEGES_TOO_WIDE",
        blocks_writes: false,
        message: format!(
            "this node's database user may {} on {}: give it the role that `stella orch ledger \
             init --role` makes, and no other",
            Vec::from_iter(actions).join(", "),
            places.join(", ")
        ),
    })
}

/// Whether a privilege's resource includes the collection. An empty name is every name.
fn covers(privilege: &Document, database: &str, collection: &str) -> bool {
    let Ok(resource) = privilege.get_document("resource") else { return false };
    let any = |name: &str, own: &str| {
        resource.get_str(name).is_ok_and(|named| named.is_empty() || named == own)
    };
    resource.get_bool("anyResource") == Ok(true)
        || any("db", database) && any("collection", collection)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn code(finding: Option<Finding>) -> Option<&'static str> {
        finding.map(|finding| finding.code)
    }

    #[test]
    fn only_replica_sets_and_routers_will_do() {
        assert_eq!(code(topology(&doc! { "setName": "rs0" })), None);
        assert_eq!(code(topology(&doc! { "msg": "isdbgrid" })), None);
        assert_eq!(code(topology(&doc! { "ok": 1 })), Some("NOT_A_REPLICA_SET"));
    }

    #[test]
    fn a_tenant_must_not_be_spread_over_shards() {
        for (key, expected) in [
            (doc! { "tenant": 1 }, None),
            (doc! { "tenant": 1.0 }, None),
            (doc! { "tenant": "hashed" }, Some("SHARD_KEY")),
            (doc! { "_id": "hashed" }, Some("SHARD_KEY")),
            (doc! { "tenant": 1, "stream": 1 }, Some("SHARD_KEY")),
        ] {
            assert_eq!(code(shard_key(&doc! { "key": key.clone() })), expected, "{key}");
        }
    }

    #[test]
    fn privileges_to_change_the_ledger_are_found() {
        let own = doc! { "db": "stella", "collection": "ledger" };
        let status = |resource: &Document, actions: &[&str]| {
            doc! { "authInfo": {
                "authenticatedUsers": [{ "user": "u", "db": "admin" }],
                "authenticatedUserPrivileges": [{ "resource": resource, "actions": actions }],
            } }
        };
        for (resource, actions, expected) in [
            (own.clone(), &["find", "insert"][..], None),
            (own, &["find", "update"], Some("PRIVILEGES_TOO_WIDE")),
            (doc! { "db": "stella", "collection": "" }, &["remove"], Some("PRIVILEGES_TOO_WIDE")),
            (doc! { "db": "", "collection": "" }, &["dropIndex"], Some("PRIVILEGES_TOO_WIDE")),
            (doc! { "anyResource": true }, &["update"], Some("PRIVILEGES_TOO_WIDE")),
            (doc! { "anyResource": true }, &["anyAction"], Some("PRIVILEGES_TOO_WIDE")),
            (
                doc! { "db": "stella", "collection": "" },
                &["grantRole"],
                Some("PRIVILEGES_TOO_WIDE"),
            ),
            (
                doc! { "db": "stella", "collection": "tiles" },
                &["remove"],
                Some("PRIVILEGES_TOO_WIDE"),
            ),
            (doc! { "db": "stella", "collection": "other" }, &["update"], None),
            (doc! { "cluster": true }, &["update"], None),
        ] {
            let found = privileges(&status(&resource, actions), "stella", &["ledger", "tiles"]);
            assert_eq!(code(found), expected, "{resource} {actions:?}");
        }
        let nobody = doc! { "authInfo": { "authenticatedUsers": [] } };
        assert_eq!(code(privileges(&nobody, "stella", &["ledger"])), Some("AUTH_DISABLED"));
    }
}
