//! The whole transition table of a tenant as text: what every command does in every state.

use super::tests::{closed, contact, domain, fold, given, name, reason, registered, set, suspended, unset};
use super::*;
use cqrs_es::DomainEvent;

/// Every (state, command) pair. A command that repeats what is so already has a row of its own.
const TRANSITIONS: &str = "
command                      absent                 active                     suspended                  closed
tenant.register              registered             TENANT_ALREADY_REGISTERED  TENANT_ALREADY_REGISTERED  TENANT_ALREADY_REGISTERED
tenant.register-same         registered             TENANT_ALREADY_REGISTERED  TENANT_ALREADY_REGISTERED  TENANT_ALREADY_REGISTERED
tenant.rename                TENANT_NOT_REGISTERED  renamed                    TENANT_SUSPENDED           TENANT_CLOSED
tenant.rename-same           TENANT_NOT_REGISTERED  already-so                 TENANT_SUSPENDED           TENANT_CLOSED
tenant.changePlan            TENANT_NOT_REGISTERED  plan_changed               TENANT_SUSPENDED           TENANT_CLOSED
tenant.changePlan-same       TENANT_NOT_REGISTERED  already-so                 TENANT_SUSPENDED           TENANT_CLOSED
tenant.changeSettings        TENANT_NOT_REGISTERED  settings_changed           TENANT_SUSPENDED           TENANT_CLOSED
tenant.changeSettings-same   TENANT_NOT_REGISTERED  already-so                 TENANT_SUSPENDED           TENANT_CLOSED
tenant.changeContact         TENANT_NOT_REGISTERED  contact_changed            contact_changed            TENANT_CLOSED
tenant.changeContact-same    TENANT_NOT_REGISTERED  already-so                 already-so                 TENANT_CLOSED
tenant.claimDomain           TENANT_NOT_REGISTERED  domain_claimed             TENANT_SUSPENDED           TENANT_CLOSED
tenant.claimDomain-same      TENANT_NOT_REGISTERED  already-so                 TENANT_SUSPENDED           TENANT_CLOSED
tenant.releaseDomain         TENANT_NOT_REGISTERED  domain_released            TENANT_SUSPENDED           TENANT_CLOSED
tenant.suspend               TENANT_NOT_REGISTERED  suspended                  already-so                 TENANT_CLOSED
tenant.reopen                TENANT_NOT_REGISTERED  already-so                 reopened                   TENANT_CLOSED
tenant.close                 TENANT_NOT_REGISTERED  closed                     closed                     already-so
";

pub(super) fn command_of(row: &str) -> TenantCommand {
    use TenantCommand as C;
    match row {
        "tenant.register" => C::Register { name: name("New"), plan: Plan::Pro, contact: None, domain: None },
        "tenant.register-same" => {
            C::Register { name: name("Old"), plan: Plan::Free, contact: contact("Ada"), domain: domain("old.example") }
        }
        "tenant.rename" => C::Rename { name: name("New") },
        "tenant.rename-same" => C::Rename { name: name("Old") },
        "tenant.changePlan" => C::ChangePlan { plan: Plan::Pro },
        "tenant.changePlan-same" => C::ChangePlan { plan: Plan::Free },
        "tenant.changeSettings" => C::ChangeSettings { set: set(&[("a", 1)]), unset: unset(&[]) },
        "tenant.changeSettings-same" => C::ChangeSettings { set: set(&[]), unset: unset(&["a"]) },
        "tenant.changeContact" => C::ChangeContact { contact: contact("Grace") },
        "tenant.changeContact-same" => C::ChangeContact { contact: contact("Ada") },
        "tenant.claimDomain" => C::ClaimDomain { domain: domain("new.example").expect("a domain") },
        "tenant.claimDomain-same" => C::ClaimDomain { domain: domain("old.example").expect("a domain") },
        "tenant.releaseDomain" => C::ReleaseDomain,
        "tenant.suspend" => C::Suspend { reason: reason("another reason") },
        "tenant.reopen" => C::Reopen,
        "tenant.close" => C::Close { reason: reason("another reason") },
        other => panic!("no command for the row {other}"),
    }
}

pub(super) fn history_of(column: &str) -> Vec<TenantEvent> {
    match column {
        "absent" => vec![],
        "active" => vec![registered()],
        "suspended" => vec![registered(), suspended()],
        "closed" => vec![registered(), closed()],
        other => panic!("no history for the column {other}"),
    }
}

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    let mut rows =
        TRANSITIONS.lines().filter(|line| !line.is_empty()).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let columns = rows.next().expect("a header");
    for row in rows {
        assert_eq!(row.len(), columns.len(), "{row:?}");
        assert_eq!(command_of(row[0]).action().as_str(), row[0].trim_end_matches("-same"));
        for (column, expected) in columns.iter().zip(&row).skip(1) {
            let outcome = match given(history_of(column)).when(command_of(row[0])).inspect_result() {
                Ok(events) => match events.as_slice() {
                    [] => "already-so".to_owned(),
                    [event] => event.event_type().trim_start_matches("platform.tenant.").to_owned(),
                    many => panic!("{} events where the table has room for one", many.len()),
                },
                Err(refusal) => refusal.code().to_owned(),
            };
            assert_eq!(&outcome, expected, "{} while {column}", row[0]);
        }
    }
}

/// The columns are the variants of the state, the rows the actions that are commands: the compiler asks about a
/// new state in `column_of`, and a new command needs a new action.
#[test]
fn the_table_covers_every_state_and_every_command() {
    fn column_of(tenant: &Tenant) -> &'static str {
        match tenant {
            Tenant::Absent => "absent",
            Tenant::Active { .. } => "active",
            Tenant::Suspended { .. } => "suspended",
            Tenant::Closed { .. } => "closed",
        }
    }
    let mut lines = TRANSITIONS.lines().filter(|line| !line.is_empty());
    for column in lines.next().expect("a header").split_whitespace().skip(1) {
        assert_eq!(column_of(&fold(history_of(column))), column);
    }
    let rows: BTreeSet<_> =
        lines.filter_map(|line| line.split_whitespace().next()).filter(|row| !row.ends_with("-same")).collect();
    let commands = Action::ALL
        .iter()
        .filter(|action| action.as_str().starts_with("tenant.") && action.kind() == crate::ActionKind::Command);
    assert_eq!(rows, commands.map(|action| action.as_str()).collect());
}
