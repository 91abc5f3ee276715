//! From the tree of a text to a manifest, with every fault on the way.

use super::super::manifest::{About, Integration, IntegrationKind, Manifest, ModuleRole, Route};
use super::super::values::{Description, Keyword, ModuleKey, ModuleUrl, ModuleVersion, Permission, RoleKey, RoutePath};
use super::tree::{Key, Node, Value};
use super::{FAULTS_MAX, Fault, Place};
use crate::platform::tenant::{SettingKey, SettingValue};
use crate::value::{InvalidValue, Name};
use std::collections::{BTreeMap, BTreeSet};

// The fields of each part: what is not among them is refused. The published schema is made of the same lists.
pub(super) const MANIFEST: &[&str] = &[
    "id",
    "name",
    "version",
    "description",
    "author",
    "icon",
    "category",
    "integration",
    "roles",
    "dependencies",
    "resources",
    "routes",
    "settings",
];
pub(super) const INTEGRATION: &[&str] = &["type", "entry_point", "api_prefix", "ui_framework"];
pub(super) const ROLE: &[&str] = &["name", "display_name", "permissions", "inherits"];
pub(super) const ROUTE: &[&str] = &["path", "name", "permission"];

pub(super) fn manifest(root: &Node) -> Result<Manifest, Vec<Fault>> {
    let mut reader = Reader::default();
    let read = reader.manifest(root);
    let mut faults = reader.faults;
    let sized = match read {
        Some(manifest) if faults.is_empty() => manifest.sized(),
        _ => {
            faults.sort_by_key(|fault| fault.at);
            faults.truncate(FAULTS_MAX);
            return Err(faults);
        }
    };
    sized.map_err(|refused| vec![Fault { at: root.at, path: Vec::new(), code: refused.code, message: refused.message }])
}

/// Foreign text fit for a message: bounded, and on one line.
pub(super) fn plain(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    let shown = text.chars().take(CHARS_MAX).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    shown.chain(text.chars().nth(CHARS_MAX).map(|_| '…')).collect()
}

#[derive(Default)]
struct Reader {
    faults: Vec<Fault>,
}

/// A node with its place in the manifest.
#[derive(Clone)]
struct Field<'a> {
    node: &'a Node,
    path: Vec<String>,
}

/// A mapping whose members are looked at by name.
struct Members<'a> {
    at: Place,
    path: Vec<String>,
    members: &'a [(Key, Node)],
}

impl<'a> Field<'a> {
    fn at(node: &'a Node, path: &[String], step: &str) -> Self {
        Field { node, path: [path, &[step.to_owned()]].concat() }
    }
}

impl<'a> Members<'a> {
    /// Null is absent.
    fn get(&self, name: &str) -> Option<Field<'a>> {
        let (_, node) = self.members.iter().find(|(key, _)| key.name == name)?;
        (!matches!(node.value, Value::Null)).then(|| Field::at(node, &self.path, name))
    }
}

impl Reader {
    fn fault(&mut self, at: Place, path: &[String], code: &'static str, message: impl Into<String>) {
        // A few more than are told, so that the first ones by place are among them.
        if self.faults.len() < 10 * FAULTS_MAX {
            self.faults.push(Fault { at, path: path.to_vec(), code, message: message.into() });
        }
    }

    fn of_field(&mut self, field: &Field<'_>, code: &'static str, message: impl Into<String>) {
        self.fault(field.node.at, &field.path, code, message);
    }

    fn members<'a>(&mut self, field: &Field<'a>, known: &[&str], what: &str) -> Option<Members<'a>> {
        let Value::Map(members) = &field.node.value else {
            let message = format!("{what} has fields ({}), and here is {}", known.join(", "), kind(&field.node.value));
            self.of_field(field, "MALFORMED", message);
            return None;
        };
        for (key, _) in members.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            let message = format!("{what} has no field {}: there are {}", plain(&key.name), known.join(", "));
            // Foreign names are not part of the path.
            self.fault(key.at, &field.path, "UNKNOWN_FIELD", message);
        }
        Some(Members { at: field.node.at, path: field.path.clone(), members })
    }

    fn needed<'a>(&mut self, of: &Members<'a>, name: &str) -> Option<Field<'a>> {
        let found = of.get(name);
        if found.is_none() {
            let path = [of.path.as_slice(), &[name.to_owned()]].concat();
            self.fault(of.at, &path, "EMPTY", format!("{name} is missing; add it"));
        }
        found
    }

    fn text<'a>(&mut self, field: &Field<'a>) -> Option<&'a str> {
        match &field.node.value {
            Value::Text(text) => Some(text),
            other => {
                let remedy = match other {
                    Value::Whole(_) | Value::Fraction | Value::Flag(_) => "; put it into quotes to make it one",
                    _ => "",
                };
                self.of_field(field, "MALFORMED", format!("this is a text, and here is {}{remedy}", kind(other)));
                None
            }
        }
    }

    fn value<T>(&mut self, field: &Field<'_>, parse: impl Fn(&str) -> Result<T, InvalidValue>) -> Option<T> {
        let text = self.text(field)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(refused) => {
                self.of_field(field, refused.code, refused.message);
                None
            }
        }
    }

    /// Of a field that may be absent.
    fn maybe<T>(&mut self, of: &Members<'_>, name: &str, parse: impl Fn(&str) -> Result<T, InvalidValue>) -> Option<T> {
        of.get(name).and_then(|field| self.value(&field, parse))
    }

    fn must<T>(&mut self, of: &Members<'_>, name: &str, parse: impl Fn(&str) -> Result<T, InvalidValue>) -> Option<T> {
        self.needed(of, name).and_then(|field| self.value(&field, parse))
    }

    /// The items of a list that may be absent.
    fn items<'a>(&mut self, of: &Members<'a>, name: &str, max: usize) -> Vec<Field<'a>> {
        let Some(field) = of.get(name) else { return Vec::new() };
        let Value::List(items) = &field.node.value else {
            self.of_field(&field, "MALFORMED", format!("this is a list, and here is {}", kind(&field.node.value)));
            return Vec::new();
        };
        if items.len() > max {
            self.of_field(&field, "TOO_MANY", format!("at most {max}, and here are {}", items.len()));
            return Vec::new();
        }
        items.iter().enumerate().map(|(nth, node)| Field::at(node, &field.path, &nth.to_string())).collect()
    }

    /// A list of values, none of them twice.
    fn set<T: Ord>(
        &mut self,
        of: &Members<'_>,
        name: &str,
        max: usize,
        parse: impl Fn(&str) -> Result<T, InvalidValue>,
    ) -> BTreeSet<T> {
        let mut set = BTreeSet::new();
        for field in self.items(of, name, max) {
            if let Some(value) = self.value(&field, &parse)
                && !set.insert(value)
            {
                self.of_field(&field, "DUPLICATE", "it is there already; name it once");
            }
        }
        set
    }

    fn manifest(&mut self, root: &Node) -> Option<Manifest> {
        let root = Field { node: root, path: Vec::new() };
        let of = self.members(&root, MANIFEST, "a manifest")?;
        let key = self.must(&of, "id", ModuleKey::parse);
        let name = self.must(&of, "name", Name::parse);
        let version = self.must(&of, "version", ModuleVersion::parse);
        let description = self.maybe(&of, "description", Description::parse).unwrap_or_default();
        let about = About {
            author: self.maybe(&of, "author", Name::parse),
            icon: self.maybe(&of, "icon", Keyword::parse),
            category: self.maybe(&of, "category", Keyword::parse),
        };
        let integration = self.needed(&of, "integration").and_then(|field| self.integration(&field));
        let roles = self.roles(&of);
        let dependencies = self.set(&of, "dependencies", Manifest::SERVICES.len(), service);
        let resources = self.resources(&of);
        let routes = self.routes(&of, &roles);
        let settings = self.settings(&of);
        Some(Manifest {
            key: key?,
            name: name?,
            version: version?,
            description,
            about,
            integration: integration?,
            roles,
            routes,
            settings,
            dependencies,
            resources,
        })
    }

    fn integration(&mut self, field: &Field<'_>) -> Option<Integration> {
        let of = self.members(field, INTEGRATION, "an integration")?;
        let kind = self.must(&of, "type", integration_kind);
        let api_prefix = self.maybe(&of, "api_prefix", RoutePath::parse);
        let ui_framework = self.maybe(&of, "ui_framework", Keyword::parse);
        let (url, entry_point) = match kind? {
            IntegrationKind::Embedded => (None, self.maybe(&of, "entry_point", RoutePath::parse)),
            IntegrationKind::Iframe | IntegrationKind::Api | IntegrationKind::External => {
                (Some(self.must(&of, "entry_point", ModuleUrl::parse)?), None)
            }
        };
        Some(Integration { kind: kind?, url, entry_point, api_prefix, ui_framework })
    }

    fn roles(&mut self, of: &Members<'_>) -> BTreeMap<RoleKey, ModuleRole> {
        let fields = match self.needed(of, "roles") {
            Some(list) => {
                let fields = self.items(of, "roles", Manifest::ROLES_MAX);
                if matches!(&list.node.value, Value::List(items) if items.is_empty()) {
                    self.of_field(&list, "EMPTY", "a module has at least one role, or it could be granted to nobody");
                }
                fields
            }
            None => Vec::new(),
        };
        let mut roles = BTreeMap::new();
        let mut inherits: BTreeMap<RoleKey, (Field<'_>, BTreeSet<RoleKey>)> = BTreeMap::new();
        for field in fields {
            let Some(of) = self.members(&field, ROLE, "a role") else { continue };
            let permissions = self.set(&of, "permissions", Manifest::PERMISSIONS_MAX, Permission::parse_of_role);
            let above = self.set(&of, "inherits", Manifest::ROLES_MAX, RoleKey::parse);
            let shown = self.maybe(&of, "display_name", Name::parse);
            let Some(key) = self.must(&of, "name", RoleKey::parse) else { continue };
            let Some(name) = shown.or_else(|| Name::parse(key.as_str()).ok()) else { continue };
            inherits.insert(key.clone(), (field.clone(), above));
            if roles.insert(key, ModuleRole { name, permissions }).is_some() {
                self.of_field(&field, "DUPLICATE", "a role of this name is there already; name it once");
            }
        }
        self.inherited(roles, &inherits)
    }

    /// Roles with what they inherit, however far it comes.
    fn inherited(
        &mut self,
        roles: BTreeMap<RoleKey, ModuleRole>,
        inherits: &BTreeMap<RoleKey, (Field<'_>, BTreeSet<RoleKey>)>,
    ) -> BTreeMap<RoleKey, ModuleRole> {
        let mut whole = BTreeMap::new();
        for (key, role) in &roles {
            let Some((field, _)) = inherits.get(key) else { continue };
            let (mut reached, mut next) = (BTreeSet::new(), vec![key]);
            while let Some(from) = next.pop() {
                for above in inherits.get(from).into_iter().flat_map(|(_, above)| above) {
                    if !roles.contains_key(above) && from == key {
                        let path = [field.path.as_slice(), &["inherits".to_owned()]].concat();
                        let message = format!("the manifest has no role {above}; add it, or leave it out");
                        self.fault(field.node.at, &path, "UNKNOWN_VALUE", message);
                    }
                    if reached.insert(above) {
                        next.push(above);
                    }
                }
            }
            if reached.contains(key) {
                let path = [field.path.as_slice(), &["inherits".to_owned()]].concat();
                let message = "the role inherits from itself; take one of the roles between out";
                self.fault(field.node.at, &path, "MALFORMED", message);
            }
            let mut permissions = role.permissions.clone();
            permissions.extend(reached.iter().filter_map(|key| roles.get(*key)).flat_map(|of| of.permissions.clone()));
            if permissions.len() > Manifest::PERMISSIONS_MAX {
                let message =
                    format!("with what it inherits, a role has at most {} permissions", Manifest::PERMISSIONS_MAX);
                self.of_field(field, "TOO_MANY", message);
            }
            whole.insert(key.clone(), ModuleRole { name: role.name.clone(), permissions });
        }
        whole
    }

    fn routes(&mut self, of: &Members<'_>, roles: &BTreeMap<RoleKey, ModuleRole>) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for field in self.items(of, "routes", Manifest::ROUTES_MAX) {
            let Some(of) = self.members(&field, ROUTE, "a route") else { continue };
            let (path, name) = (self.must(&of, "path", RoutePath::parse), self.must(&of, "name", Name::parse));
            let permission =
                of.get("permission").and_then(|field| Some((self.value(&field, Permission::parse)?, field)));
            if let Some((permission, field)) = &permission
                && !roles.values().any(|role| role.may(permission))
            {
                let message = "no role of the manifest has this permission, so nobody could visit; correct one of them";
                self.of_field(field, "UNKNOWN_VALUE", message);
            }
            let (Some(path), Some(name)) = (path, name) else { continue };
            if routes.iter().any(|route| route.path == path) {
                self.of_field(&field, "DUPLICATE", "a route of this path is there already; name it once");
            }
            routes.push(Route { path, name, permission: permission.map(|(permission, _)| permission) });
        }
        routes
    }

    /// The members of a mapping of the module's own keys.
    fn entries<'a>(&mut self, of: &Members<'a>, name: &str, max: usize) -> Vec<(SettingKey, Field<'a>)> {
        let Some(field) = of.get(name) else { return Vec::new() };
        let Value::Map(members) = &field.node.value else {
            self.of_field(&field, "MALFORMED", format!("this has fields, and here is {}", kind(&field.node.value)));
            return Vec::new();
        };
        if members.len() > max {
            self.of_field(&field, "TOO_MANY", format!("at most {max}, and here are {}", members.len()));
            return Vec::new();
        }
        let mut entries = Vec::new();
        for (key, node) in members {
            match SettingKey::parse(&key.name) {
                Ok(parsed) => entries.push((parsed, Field::at(node, &field.path, &key.name))),
                Err(refused) => self.fault(key.at, &field.path, refused.code, refused.message),
            }
        }
        entries
    }

    fn settings(&mut self, of: &Members<'_>) -> BTreeMap<SettingKey, SettingValue> {
        let mut settings = BTreeMap::new();
        for (key, field) in self.entries(of, "settings", Manifest::SETTINGS_MAX) {
            let value = match &field.node.value {
                Value::Flag(flag) => Ok(SettingValue::Flag(*flag)),
                Value::Whole(number) => Ok(SettingValue::Whole(*number)),
                Value::Text(text) => SettingValue::text(text),
                _ => SettingValue::parse(&serde_json::Value::Null),
            };
            match value {
                Ok(value) => {
                    settings.insert(key, value);
                }
                Err(refused) => self.of_field(&field, refused.code, refused.message),
            }
        }
        settings
    }

    fn resources(&mut self, of: &Members<'_>) -> BTreeMap<SettingKey, u64> {
        let mut resources = BTreeMap::new();
        for (key, field) in self.entries(of, "resources", Manifest::RESOURCES_MAX) {
            let number = match &field.node.value {
                Value::Whole(number) => u64::try_from(*number).ok().filter(|number| *number <= Manifest::RESOURCE_MAX),
                _ => None,
            };
            match number {
                Some(number) => {
                    resources.insert(key, number);
                }
                None => {
                    let message = format!("a limit is a whole number from 0 to {}; correct it", Manifest::RESOURCE_MAX);
                    self.of_field(&field, "MALFORMED", message);
                }
            }
        }
        resources
    }
}

fn integration_kind(text: &str) -> Result<IntegrationKind, InvalidValue> {
    match text {
        "embedded" => Ok(IntegrationKind::Embedded),
        "iframe" => Ok(IntegrationKind::Iframe),
        "api" => Ok(IntegrationKind::Api),
        "external" => Ok(IntegrationKind::External),
        _ => Err(InvalidValue::new(&[], "UNKNOWN_VALUE", "a module is embedded, iframe, api or external")),
    }
}

fn service(text: &str) -> Result<Keyword, InvalidValue> {
    match Manifest::SERVICES.contains(&text) {
        true => Keyword::parse(text),
        false => {
            let message = format!("a module depends on services of the platform: {}", Manifest::SERVICES.join(", "));
            Err(InvalidValue::new(&[], "UNKNOWN_VALUE", message))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Flag(_) => "true or false",
        Value::Whole(_) | Value::Fraction => "a number",
        Value::Text(_) => "a text",
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
    }
}
