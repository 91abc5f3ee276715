//! Whether the platform lets a module be used at all, in whatever tenant: a stream per key of modules, in the platform's tenant.
//!
//! A key that nobody has switched is on. It knows neither the tenants nor whether any of them has such a module.

use super::module::ModuleKey;
use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, Refusal};
use crate::context::Context;
use crate::ids::PLATFORM_TENANT;
use crate::value::Reason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The one switch of modules of a key: UUIDv5, in the platform's namespace, of the key.
pub fn module_switch_id(key: &ModuleKey) -> Uuid {
    Uuid::new_v5(&PLATFORM_TENANT.0, format!("module {key}").as_bytes())
}

/// What can be asked of a switch. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleSwitchCommand {
    Turn { key: ModuleKey, active: bool, reason: Reason },
}

impl Guarded for ModuleSwitchCommand {
    fn action(&self) -> Action {
        match self {
            Self::Turn { .. } => Action::ModuleActivate,
        }
    }
}

/// What happened to a switch. A payload in the journal is the inner object; its tag is in the event's type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModuleSwitchEvent {
    /// Modules of this key may be used by nobody, in no tenant.
    TurnedOff { key: ModuleKey, reason: Reason },
    /// Tenants, memberships and grants say again who may use them.
    TurnedOn { key: ModuleKey, reason: Reason },
}

impl cqrs_es::DomainEvent for ModuleSwitchEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::TurnedOff { .. } => "turned_off",
            Self::TurnedOn { .. } => "turned_on",
        };
        format!("platform.module_switch.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for ModuleSwitchEvent {}

/// Why a switch refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ModuleSwitchError {
    #[error(
        "modules are switched for all tenants in the platform's own; use its id and the id that follows from the key"
    )]
    ForeignStream,
}

impl Refusal for ModuleSwitchError {
    fn code(&self) -> &'static str {
        match self {
            Self::ForeignStream => "MODULE_SWITCH_FOREIGN_STREAM",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::ForeignStream => &["key"],
        }
    }
}

/// A switch as its events have made it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleSwitch {
    #[default]
    On,
    Off {
        key: ModuleKey,
        reason: Reason,
    },
}

impl ModuleSwitch {
    fn apply_event(&mut self, event: ModuleSwitchEvent) {
        *self = match event {
            ModuleSwitchEvent::TurnedOff { key, reason } => ModuleSwitch::Off { key, reason },
            ModuleSwitchEvent::TurnedOn { .. } => ModuleSwitch::On,
        };
    }
}

crate::cqrs_aggregate!(
    ModuleSwitch,
    type = "module_switch",
    command = ModuleSwitchCommand,
    event = ModuleSwitchEvent,
    error = ModuleSwitchError
);

impl EventSourced for ModuleSwitch {
    const CONTEXT: &'static str = "platform";

    fn decide(
        &self,
        context: &Context,
        command: ModuleSwitchCommand,
    ) -> Result<Vec<ModuleSwitchEvent>, ModuleSwitchError> {
        use {ModuleSwitch::*, ModuleSwitchEvent as E};
        let ModuleSwitchCommand::Turn { key, active, reason } = command;
        if context.tenant != PLATFORM_TENANT || context.id != module_switch_id(&key) {
            return Err(ModuleSwitchError::ForeignStream);
        }
        Ok(match (self, active) {
            (On, false) => vec![E::TurnedOff { key, reason }],
            (Off { .. }, true) => vec![E::TurnedOn { key, reason }],
            (On, true) | (Off { .. }, false) => vec![],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::testing::{self, check_calls, given, reason};
    use cqrs_es::DomainEvent;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn key() -> ModuleKey {
        ModuleKey::parse("bess-sizing").expect("a key")
    }

    fn platform() -> Context {
        Context { tenant: PLATFORM_TENANT, ..testing::context(module_switch_id(&key())) }
    }

    fn turn(active: bool) -> ModuleSwitchCommand {
        ModuleSwitchCommand::Turn { key: key(), active, reason: reason("a hole") }
    }

    #[test]
    fn a_key_is_on_until_it_is_turned_off() {
        let off = || ModuleSwitchEvent::TurnedOff { key: key(), reason: reason("a hole") };
        let on = || ModuleSwitchEvent::TurnedOn { key: key(), reason: reason("a hole") };
        let given = |history| given::<ModuleSwitch>(platform(), history);
        given(vec![]).when(turn(true)).then_expect_events(vec![]);
        given(vec![]).when(turn(false)).then_expect_events(vec![off()]);
        given(vec![off()]).when(turn(false)).then_expect_events(vec![]);
        given(vec![off()]).when(turn(true)).then_expect_events(vec![on()]);
        given(vec![off(), on()]).when(turn(false)).then_expect_events(vec![off()]);
        assert_eq!(off().event_type(), "platform.module_switch.turned_off");
        assert_eq!(on().event_type(), "platform.module_switch.turned_on");
        assert_eq!(turn(true).action(), Action::ModuleActivate);
    }

    #[test]
    fn no_tenant_switches_for_all() {
        for context in [testing::context(module_switch_id(&key())), Context { id: Uuid::from_u128(1), ..platform() }] {
            given::<ModuleSwitch>(context, vec![])
                .when(turn(false))
                .then_expect_error(ModuleSwitchError::ForeignStream);
        }
    }

    #[test]
    fn the_id_of_a_switch_never_changes() {
        let id = module_switch_id(&key()).to_string();
        assert_eq!(id, "ca01fb13-018d-56ed-b4ae-cdeef7574ef8", "streams of before are found by this id");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(50) })]

        #[test]
        fn a_decision_is_repeatable_and_survives_its_own_journal(turns in vec(any::<bool>(), 0..10)) {
            let calls: Vec<_> = turns.into_iter().map(|active| (platform(), turn(active))).collect();
            check_calls::<ModuleSwitch>(&calls, &[], |_, _| {});
        }
    }
}
