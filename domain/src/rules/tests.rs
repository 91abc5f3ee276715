//! The roles of the five businesses, cell by cell, and what holds for any roles.

use super::*;
use crate::action::Action;
use crate::condition::{Claims, Condition, Record, Truth, Value};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

const ME: Uuid = Uuid::from_u128(1);
const SOMEBODY: Uuid = Uuid::from_u128(2);

fn claims() -> Claims {
    Claims::default().with("account", ME)
}

fn rules_of(preset_key: &str, role: &str) -> Arc<RoleRules> {
    let preset = preset(preset_key).expect("a preset");
    let role = preset.roles.into_iter().find(|of| of.key.as_str() == role).unwrap_or_else(|| panic!("no role {role}"));
    Arc::new(RoleRules { key: role.key.as_str().to_owned(), rules: role.rules, fields: role.fields })
}

fn permissions(roles: &[(&str, &str)]) -> Permissions {
    Permissions::compile(roles.iter().map(|(preset, role)| rules_of(preset, role)).collect(), find)
}

fn may(permissions: &Permissions, action: &str, record: &impl Record) -> bool {
    permissions.verdict_of(action, find).condition().judge(record, &claims()).holds()
}

fn owned_by(owner: Uuid) -> impl Fn(&str) -> Option<Value> {
    move |field| (field == "owner").then(|| owner.into())
}

/// A cell is `yes`, `no`, or `own`: of one's own records, and of nobody else's.
fn check(preset: &str, table: &str) {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|row| !row.is_empty());
    let roles = rows.next().expect("a header");
    let mut cells = 0;
    for row in rows {
        assert_eq!(row.len(), roles.len(), "{row:?}");
        for (role, expected) in roles[1..].iter().zip(&row[1..]) {
            let permissions = permissions(&[(preset, role)]);
            let (own, others) =
                (may(&permissions, row[0], &owned_by(ME)), may(&permissions, row[0], &owned_by(SOMEBODY)));
            let cell = match (own, others) {
                (true, true) => "yes",
                (true, false) => "own",
                (false, false) => "no",
                (false, true) => "others' only",
            };
            assert_eq!(cell, *expected, "{} as {role}", row[0]);
            cells += 1;
        }
    }
    assert!(cells > 0, "a table has cells");
}

#[test]
fn the_permission_matrix_of_the_enterprise_platform_holds_cell_by_cell() {
    check(
        "enterprise",
        "
        action               enterprise_admin  module_admin  engineer  module_viewer
        platform.settings    yes               no            no        no
        users.manage         yes               no            no        no
        module.users.manage  yes               yes           no        no
        project.create       yes               yes           yes       no
        project.edit         yes               yes           own       no
        simulation.run       yes               yes           yes       no
        result.view          yes               yes           yes       yes
        data.export          yes               yes           yes       no
        project.delete       yes               yes           own       no
        ",
    );
}

#[test]
fn the_roles_of_the_small_business_and_of_the_inventory_hold() {
    check(
        "smb",
        "
        action                  smb_admin  smb_member  smb_viewer
        membership.changeRoles  yes        no          no
        module.enable           yes        no          no
        connector.authorize     yes        no          no
        connector.read          yes        yes         yes
        task.create             yes        yes         no
        task.read               yes        yes         yes
        assistant.ask           yes        yes         no
        metric.read             yes        yes         yes
        audit.read              yes        no          no
        ",
    );
    check(
        "inventory",
        "
        action            inventory_admin  inventory_member  inventory_viewer
        workspace.create  yes              yes               no
        workspace.delete  yes              no                no
        workspace.read    yes              yes               yes
        usage.read        yes              yes               yes
        usage.import      yes              yes               no
        assistant.ask     yes              yes               no
        account.manage    yes              no                no
        ",
    );
}

#[test]
fn the_roles_of_energy_hold() {
    check(
        "energy",
        "
        action           energy_viewer  energy_manager  energy_admin  energy_provider
        readings.read    yes            yes             yes           no
        device.read      yes            yes             yes           no
        device.register  no             no              yes           no
        alert.create     no             yes             yes           no
        alert.read       no             yes             yes           no
        consent.grant    no             no              yes           no
        consent.use      no             no              yes           yes
        ",
    );
}

#[test]
fn a_doctor_sees_no_money_and_an_accountant_no_patients() {
    check(
        "erp",
        "
        action          sales_manager  doctor  accountant  junior_hr  senior_hr
        lead.read       yes            no      no          no         no
        lead.write      yes            no      no          no         no
        patient.read    no             yes     no          no         no
        invoice.read    no             no      yes         no         no
        employee.read   no             no      no          yes        yes
        employee.write  no             no      no          yes        yes
        employee.delete no             no      no          no         yes
        ",
    );
    // Whoever is both may neither: a denial wins.
    let both = permissions(&[("erp", "doctor"), ("erp", "accountant")]);
    assert!(!may(&both, "invoice.read", &()) && !may(&both, "patient.read", &()));
    assert!(may(&both, "appointment.read", &()) && may(&both, "ledger.read", &()));
}

#[test]
fn leads_of_the_north_below_ten_thousand_and_no_others() {
    let north = permissions(&[("erp", "sales_north")]);
    let lead = |region: Option<&'static str>, value: Option<i64>, owner: Uuid| {
        move |field: &str| match field {
            "region" => region.map(Value::from),
            "value" => value.map(Value::from),
            "owner" => Some(owner.into()),
            _ => None,
        }
    };
    for (region, value, owner, read, write) in [
        (Some("North"), Some(999_999), ME, true, true),
        (Some("North"), Some(999_999), SOMEBODY, true, false),
        (Some("North"), Some(1_000_000), ME, false, false),
        (Some("South"), Some(1), ME, false, false),
        (Some("north"), Some(1), ME, false, false),
        (None, Some(1), ME, false, false),
        (Some("North"), None, ME, false, false),
    ] {
        let lead = lead(region, value, owner);
        assert_eq!(may(&north, "lead.read", &lead), read, "read {region:?} {value:?}");
        assert_eq!(may(&north, "lead.write", &lead), write, "write {region:?} {value:?}");
    }
}

#[test]
fn the_salary_is_hidden_from_junior_hr_whatever_other_role_they_hold() {
    let junior = permissions(&[("erp", "junior_hr")]);
    let salary = |permissions: &Permissions| permissions.field("employee", "salary");
    assert_eq!(salary(&junior), FieldAccess { read: FieldRead::Hide, read_only: true });
    assert_eq!(salary(&permissions(&[("erp", "senior_hr")])), FieldAccess::default());
    let both = permissions(&[("erp", "senior_hr"), ("erp", "junior_hr")]);
    assert_eq!(salary(&both).read, FieldRead::Hide);
    assert_eq!(junior.field("employee", "name"), FieldAccess::default());
}

fn role(rules: Vec<Rule>) -> Permissions {
    Permissions::compile(vec![Arc::new(RoleRules { key: "r".into(), rules, fields: vec![] })], find)
}

fn rule(effect: Effect, action: &str, condition: Option<serde_json::Value>) -> Rule {
    Rule { effect, action: ActionPattern::parse(action).expect(action), condition, own: false }
}

#[test]
fn a_denial_wins_over_a_built_in_role_and_an_unknown_one_denies() {
    let roof = json!({"site": {"eq": "Roof"}});
    let denied = role(vec![rule(Effect::Deny, "device.read", Some(roof))]);
    let Verdict::If(condition) = denied.verdict(Action::DeviceRead, true) else { panic!("depends on the record") };
    let site = |site: Option<&'static str>| move |field: &str| (field == "site").then_some(site?.into());
    let judge = |of: Option<&'static str>| condition.judge(&site(of), &claims());
    assert_eq!(judge(Some("Roof")), Truth::False);
    assert_eq!(judge(Some("Cellar")), Truth::True);
    assert_eq!(judge(None), Truth::Unknown);
    assert_eq!(denied.verdict(Action::DeviceRead, false), Verdict::Never);
    assert_eq!(role(vec![rule(Effect::Deny, "*", None)]).verdict(Action::TenantRead, true), Verdict::Never);
}

#[test]
fn no_role_of_a_tenant_allows_what_is_the_platforms() {
    let all = role(vec![rule(Effect::Allow, "*", None)]);
    for action in Action::ALL {
        let by_a_tenant = crate::Role::TenantAdmin.allows(*action);
        let expected = if by_a_tenant { Verdict::Always } else { Verdict::Never };
        assert_eq!(all.verdict(*action, false), expected, "{action}");
    }
    let refused = parse_rules(vec![(Effect::Allow, "tenant.suspend", None, false)], find).expect_err("the platform's");
    assert_eq!(refused.code, "FORBIDDEN_ACTION");
    assert!(parse_rules(vec![(Effect::Deny, "tenant.suspend", None, false)], find).is_ok());
}

#[test]
fn a_rule_that_no_longer_fits_allows_nothing_and_denies_everything() {
    let gone = || Some(json!({"colour": {"eq": "red"}}));
    assert_eq!(
        role(vec![rule(Effect::Allow, "device.read", gone())]).verdict(Action::DeviceRead, false),
        Verdict::Never
    );
    assert_eq!(role(vec![rule(Effect::Deny, "device.read", gone())]).verdict(Action::DeviceRead, true), Verdict::Never);
}

#[test]
fn what_people_write_is_refused_at_its_place() {
    let refused = |effect, action, condition, own| {
        let refused = parse_rules(vec![(effect, action, condition, own)], find).expect_err(action);
        format!("{} {}", refused.code, refused.message)
    };
    for (action, condition, own, expected) in [
        ("Device.read", None, false, "MALFORMED rule 1: an action looks like"),
        (
            "device.read",
            Some(json!({"colour": {"eq": "red"}})),
            false,
            "MALFORMED rule 1: condition.colour is no field",
        ),
        ("*", Some(json!({"name": {"eq": "x"}})), false, "UNKNOWN_VALUE rule 1: * is about no resource"),
        (
            "task.read",
            Some(json!({"name": {"eq": "x"}})),
            false,
            "UNKNOWN_VALUE rule 1: task.read is about no resource",
        ),
        ("device.read", None, true, "UNKNOWN_VALUE rule 1: device.read is about records that are nobody's"),
    ] {
        let message = refused(Effect::Allow, action, condition, own);
        assert!(message.starts_with(expected), "{message}");
    }
    let many = vec![(Effect::Allow, "device.read", None, false); RULES_MAX + 1];
    assert_eq!(parse_rules(many, find).expect_err("too many").code, "TOO_MANY");
    let fields = |field| parse_fields(vec![(field, FieldRead::Hide, false)], find).map_err(|refused| refused.code);
    assert_eq!(fields("device.name").expect_err("cannot be hidden"), "UNKNOWN_VALUE");
    assert_eq!(fields("serial").expect_err("no resource"), "MALFORMED");
    assert!(fields("device.serial").is_ok());
    let twice = vec![("device.serial", FieldRead::Hide, false), ("device.serial", FieldRead::Mask, false)];
    assert_eq!(parse_fields(twice, find).expect_err("twice").code, "DUPLICATE");
}

#[test]
fn every_preset_goes_through_the_door_of_what_people_write() {
    for key in preset_keys() {
        let preset = preset(key).unwrap_or_else(|invalid| panic!("{key}: {invalid}"));
        assert!(!preset.roles.is_empty(), "{key}");
    }
    assert_eq!(preset("nothing").expect_err("unknown").code, "UNKNOWN_VALUE");
}

#[test]
fn an_explanation_names_the_rule_that_decided() {
    let explain = |permissions: &Permissions, action: &str, built_in: &[&str]| {
        permissions.explain(action, built_in, true, &owned_by(SOMEBODY), &claims(), find)
    };
    let engineer = permissions(&[("enterprise", "engineer")]);
    let edit = explain(&engineer, "project.edit", &[]);
    assert!(!edit.allowed && edit.decided.is_none() && edit.considered.len() == 1, "{edit:?}");
    assert_eq!(edit.considered[0].truth, Truth::False);
    let create = explain(&engineer, "project.create", &[]);
    assert_eq!(create.words, "rule 1 of the role engineer allows project.create");
    let doctor = permissions(&[("erp", "doctor")]);
    let invoice = explain(&doctor, "invoice.read", &["tenant_admin"]);
    assert_eq!(invoice.words, "rule 4 of the role doctor denies invoice.read, and a denial wins");
    let nothing = explain(&doctor, "lead.read", &[]);
    assert_eq!(nothing.words, "no rule of any role held is about lead.read");
    let built_in = explain(&Permissions::default(), "device.read", &["viewer"]);
    assert!(built_in.allowed && built_in.words == "the built-in role viewer allows device.read", "{built_in:?}");
}

#[test]
fn an_explanation_and_a_verdict_never_differ() {
    for preset_key in preset_keys() {
        for role in preset(preset_key).expect("a preset").roles {
            let permissions = permissions(&[(preset_key, role.key.as_str())]);
            for action in role.rules.iter().map(|rule| rule.action.as_str().replace('*', "read")) {
                for owner in [ME, SOMEBODY] {
                    let record = owned_by(owner);
                    let explained = permissions.explain(&action, &[], true, &record, &claims(), find);
                    assert_eq!(explained.allowed, may(&permissions, &action, &record), "{} {action}", role.key);
                }
            }
        }
    }
    assert_eq!(Verdict::of(Condition::TRUE), Verdict::Always);
}
