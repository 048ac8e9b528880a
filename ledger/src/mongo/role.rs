//! The role of a server that appends and can do nothing else: MongoDB itself then refuses to
//! change what was recorded, whoever holds the server's credentials.

use std::collections::BTreeSet;

use mongodb::bson::{Bson, Document, doc};

use super::{CHECKPOINTS, COLLECTION, MongoLedger, TILES, failure, setup::has_code};
use crate::port::LedgerError;

/// What the role is called, unless said otherwise.
pub const APPEND_ONLY_ROLE: &str = "stellaAppendOnly";

/// What a server does with each of its collections.
const ACTIONS: [&str; 3] = ["find", "insert", "listIndexes"];

/// Codes of refusals (`src/mongo/base/error_codes.yml`).
const UNAUTHORIZED: i32 = 13;
const ROLE_EXISTS: i32 = 51002;

/// A role that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeRole {
    /// The ledger's database, which is the role's as well.
    pub database: String,
    /// Whether it was made now; else it was there, and grants the same.
    pub is_new: bool,
}

/// Why there is no such role.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RoleError {
    /// This storage knows no users.
    #[error(
        "SQLite knows no users and no roles: there, triggers in the file refuse updates and \
         deletes, and the mode of its directory keeps other users of the machine out"
    )]
    NoRoles,
    /// MongoDB does not answer, or refuses the command.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The user may not.
    #[error(
        "this user may not make roles in the database {database} ({reason}): connect as one with \
         the role userAdmin there"
    )]
    MayNot {
        /// The ledger's database.
        database: String,
        /// What MongoDB said.
        reason: String,
    },
    /// There is a role of this name, for something else.
    #[error(
        "the database {database} has a role {name} that grants something else: {differs}. It was \
         left as it is: drop it, or choose another name with --role NAME"
    )]
    Differs {
        /// The ledger's database.
        database: String,
        /// The role.
        name: String,
        /// What it grants beyond, and what it lacks.
        differs: String,
    },
}

/// A collection, or none for the database as such, and what may be done with it.
type Grant = (String, String, String);

impl MongoLedger {
    /// Make the role `name` in the ledger's database: find, insert and listIndexes on the three
    /// collections, and listCollections. Where it is there and grants just this, nothing is done.
    ///
    /// # Errors
    /// [`RoleError`]; a role that grants something else is never changed.
    pub async fn make_append_only_role(&self, name: &str) -> Result<MadeRole, RoleError> {
        let database = self.database.name().to_owned();
        let may_not = |error: mongodb::error::Error| match has_code(&error, UNAUTHORIZED) {
            true => RoleError::MayNot {
                database: self.database.name().to_owned(),
                reason: failure::reason(&error),
            },
            false => failure::unavailable(&error).into(),
        };
        let create = doc! {
            "createRole": name,
            "privileges": privileges(&database),
            "roles": [],
            "writeConcern": { "w": "majority" },
        };
        let created = async { Ok(self.database.run_command(create).await) };
        match self.within("createRole", created).await? {
            Ok(_) => return Ok(MadeRole { database, is_new: true }),
            Err(error) if has_code(&error, ROLE_EXISTS) => {}
            Err(error) => return Err(may_not(error)),
        }
        let show = doc! {
            "rolesInfo": { "role": name, "db": &database },
            "showPrivileges": true,
        };
        let shown = async { Ok(self.database.run_command(show).await) };
        let shown = self.within("rolesInfo", shown).await?.map_err(may_not)?;
        let granted = granted(&shown);
        let wanted: BTreeSet<Grant> = privileges(&database).iter().flat_map(grants).collect();
        let beyond = granted.difference(&wanted).map(|grant| format!("more, {}", words(grant)));
        let lacking = wanted.difference(&granted).map(|grant| format!("not {}", words(grant)));
        let differs: Vec<String> = beyond.chain(lacking).collect();
        if differs.is_empty() {
            return Ok(MadeRole { database, is_new: false });
        }
        let (name, differs) = (name.to_owned(), differs.join("; "));
        Err(RoleError::Differs { database, name, differs })
    }
}

fn privileges(database: &str) -> Vec<Document> {
    let of = |collection: &str, actions: &[&str]| {
        doc! { "resource": { "db": database, "collection": collection }, "actions": actions }
    };
    let mut privileges: Vec<Document> =
        [COLLECTION, TILES, CHECKPOINTS].map(|collection| of(collection, &ACTIONS)).into();
    privileges.push(of("", &["listCollections"]));
    privileges
}

/// What a role grants, whatever it inherits included. `shown`: the answer to `rolesInfo`.
fn granted(shown: &Document) -> BTreeSet<Grant> {
    let roles = shown.get_array("roles").into_iter().flatten().filter_map(Bson::as_document);
    roles
        .filter_map(|role| role.get_array("inheritedPrivileges").ok())
        .flatten()
        .filter_map(Bson::as_document)
        .flat_map(grants)
        .collect()
}

fn grants(privilege: &Document) -> Vec<Grant> {
    let resource = privilege.get_document("resource").cloned().unwrap_or_default();
    let (database, collection) = match (resource.get_str("db"), resource.get_str("collection")) {
        (Ok(database), Ok(collection)) => (database.to_owned(), collection.to_owned()),
        // The cluster, or any resource.
        _ => (resource.to_string(), String::new()),
    };
    let actions = privilege.get_array("actions").into_iter().flatten().filter_map(Bson::as_str);
    actions.map(|action| (database.clone(), collection.clone(), action.to_owned())).collect()
}

fn words((database, collection, action): &Grant) -> String {
    match collection.as_str() {
        "" => format!("{action} on {database}"),
        _ => format!("{action} on {database}.{collection}"),
    }
}
