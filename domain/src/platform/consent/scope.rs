//! What a consent is about.

use crate::action::Action;
use crate::condition::{Condition, Operand, Test, Value};
use crate::value::{InvalidValue, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Devices that one consent names.
pub const DEVICES_MAX: usize = 200;

/// What can be consented to: reading, and of these things only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsentAction {
    /// Devices, with their sites.
    ReadDevices,
    /// What they measured. Only of use together with devices.
    ReadReadings,
}

impl ConsentAction {
    pub const ALL: &'static [ConsentAction] = &[ConsentAction::ReadDevices, ConsentAction::ReadReadings];

    /// The permissions that it stands for.
    pub fn actions(self) -> &'static [Action] {
        match self {
            ConsentAction::ReadDevices => &[Action::DeviceRead, Action::DeviceList],
            ConsentAction::ReadReadings => &[Action::ReadingsRead],
        }
    }
}

/// What is consented to, and of which devices.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConsentScope {
    pub actions: BTreeSet<ConsentAction>,
    /// The name of a site. Absent: of all sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Name")]
    pub site: Option<Name>,
    /// Ids of devices. Absent: of all devices.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub devices: BTreeSet<Uuid>,
}

impl ConsentScope {
    /// # Errors
    /// [`InvalidValue`] for no actions or too many devices.
    pub fn new(
        actions: BTreeSet<ConsentAction>,
        site: Option<Name>,
        devices: BTreeSet<Uuid>,
    ) -> Result<Self, InvalidValue> {
        if actions.is_empty() {
            return Err(InvalidValue::new(
                &["actions"],
                "EMPTY",
                "a consent is to something; name at least one action",
            ));
        }
        if devices.len() > DEVICES_MAX {
            let message = format!("a consent names at most {DEVICES_MAX} devices; consent to a site, or to all");
            return Err(InvalidValue::new(&["devices"], "TOO_MANY", message));
        }
        Ok(ConsentScope { actions, site, devices })
    }

    pub fn covers(&self, action: Action) -> bool {
        self.actions.iter().any(|consented| consented.actions().contains(&action))
    }

    /// Which devices it is about.
    pub fn condition(&self) -> Condition {
        let site = self
            .site
            .as_ref()
            .map(|site| Condition::Is("site".into(), Test::Eq(Operand::Literal(site.as_str().into()))));
        let devices = (!self.devices.is_empty())
            .then(|| Condition::one_of("id", self.devices.iter().copied().map(Value::Id).collect()));
        Condition::all(devices.into_iter().chain(site).collect())
    }
}
