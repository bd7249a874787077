//! What the three ways say together.

use super::*;
use brickwork_wire::login::proof;

const NONCES: Nonces = Nonces { server: [1; 32], client: [2; 32] };
const TLS: (&str, &str) = ("transport.socket.ssl-enabled", "on");

fn auth(options: &[(&str, &str)]) -> Auth {
    Auth::from_options("b", &options.iter().copied().collect()).unwrap()
}

fn refused(options: &[(&str, &str)]) -> Vec<String> {
    let errors = Auth::from_options("b", &options.iter().copied().collect()).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

fn at(address: &str) -> Peer {
    Peer::at(PeerAddr::Ip(address.parse().unwrap()))
}

fn certified(name: &str) -> Peer {
    Peer { certificate: Some(CommonName::new(name)), ..at("10.0.0.1") }
}

fn log_in(auth: &Auth, peer: &Peer, user: &str, password: &str) -> Result<(), Refusal> {
    let proof = proof(password, &NONCES, &Claim { user, subvolume: "b" });
    auth.judge(peer, Some(Login { user, proof: &proof }), &NONCES)
}

fn come(auth: &Auth, peer: &Peer) -> Result<(), Refusal> {
    auth.judge(peer, None, &NONCES)
}

#[test]
fn without_a_rule_nobody_is_let_in_and_the_log_says_which_option_is_missing() {
    let auth = auth(&[("auth.addr.other.allow", "*")]);
    assert!(!auth.has_anybody());
    let refusal = come(&auth, &at("10.0.0.1")).unwrap_err();
    assert_eq!(refusal.log, "no option lets anyone have `b`; `auth.addr.b.allow` is the simplest");
    assert_eq!(refusal.told, "this client may not have `b`");
}

#[test]
fn an_allowed_address_is_let_in_and_another_is_not() {
    let auth = auth(&[("auth.addr.b.allow", "10.0.0.*,fd00::/8")]);
    come(&auth, &at("10.0.0.1")).unwrap();
    come(&auth, &at("fd00::1")).unwrap();
    let refusal = come(&auth, &at("10.0.1.1")).unwrap_err();
    assert_eq!(refusal.log, "10.0.1.1 is not in `auth.addr.b.allow` (`10.0.0.*,fd00::/8`)");
    assert_eq!(refusal.told, "this client may not have `b`");
    assert!(auth.admits_address(&at("10.0.0.1")) && !auth.admits_address(&at("10.0.1.1")));
}

#[test]
fn a_rejected_address_is_not_let_in_whatever_else_speaks_for_it() {
    let auth = auth(&[
        ("auth.addr.b.allow", "*"),
        ("auth.addr.b.reject", "10.0.0.5"),
        ("auth.login.b.allow", "anna"),
        ("auth.login.anna.password", "secret"),
    ]);
    let refusal = log_in(&auth, &at("10.0.0.5"), "anna", "secret").unwrap_err();
    assert_eq!(refusal.log, "10.0.0.5 is in `auth.addr.b.reject` (`10.0.0.5`)");
    assert_eq!(refusal.told, "this address may not have `b`");
    assert!(!auth.admits_address(&at("10.0.0.5")));
    come(&auth, &at("10.0.0.6")).unwrap();
}

#[test]
fn a_unix_socket_is_this_machine() {
    let local = Peer::at(PeerAddr::Unix);
    come(&auth(&[("auth.addr.b.allow", "127.0.0.1")]), &local).unwrap();
    come(&auth(&[("auth.addr.b.allow", "::1")]), &local).unwrap();
    assert!(come(&auth(&[("auth.addr.b.allow", "10.0.0.*")]), &local).is_err());
    assert!(come(&auth(&[("auth.addr.b.allow", "*"), ("auth.addr.b.reject", "localhost")]), &local).is_err());
}

#[test]
fn a_login_lets_in_from_an_address_that_is_not_allowed() {
    let auth = auth(&[
        ("auth.addr.b.allow", "10.0.0.1"),
        ("auth.login.b.allow", "anna, bert"),
        ("auth.login.anna.password", "secret"),
        ("auth.login.bert.password", "other"),
    ]);
    log_in(&auth, &at("99.9.9.9"), "anna", "secret").unwrap();
    log_in(&auth, &at("99.9.9.9"), "bert", "other").unwrap();
    let refusal = come(&auth, &at("99.9.9.9")).unwrap_err();
    assert_eq!(
        refusal.log,
        "99.9.9.9 is not in `auth.addr.b.allow` (`10.0.0.1`); it shows no login for `auth.login.b.allow`"
    );
}

#[test]
fn a_wrong_password_is_refused_also_from_an_allowed_address() {
    let auth =
        auth(&[("auth.addr.b.allow", "*"), ("auth.login.b.allow", "anna"), ("auth.login.anna.password", "secret")]);
    come(&auth, &at("10.0.0.1")).unwrap();
    let refusal = log_in(&auth, &at("10.0.0.1"), "anna", "guess").unwrap_err();
    assert_eq!(refusal.log, "by `auth.login.b.allow` user `anna` has another password");
}

#[test]
fn a_peer_is_told_the_same_of_a_wrong_password_and_of_a_user_that_does_not_exist() {
    let auth = auth(&[("auth.login.b.allow", "anna"), ("auth.login.anna.password", "secret")]);
    let wrong = log_in(&auth, &at("10.0.0.1"), "anna", "guess").unwrap_err();
    let unknown = log_in(&auth, &at("10.0.0.1"), "nobody\n", "guess").unwrap_err();
    assert_eq!(wrong.told, unknown.told);
    assert_ne!(wrong.log, unknown.log);
    assert_eq!(unknown.log, "by `auth.login.b.allow` user `nobody\\n` is not in it");
    for refusal in [&wrong, &unknown] {
        assert!(!refusal.log.contains("secret") && !refusal.told.contains("anna"), "{refusal:?}");
    }
}

#[test]
fn the_empty_password_opens_nothing() {
    let options = [("auth.login.b.allow", "anna"), ("auth.login.anna.password", "secret")];
    let auth = auth(&options);
    for user in ["anna", "nobody"] {
        assert!(log_in(&auth, &at("10.0.0.1"), user, "").is_err(), "{user}");
    }
    assert_eq!(
        refused(&[("auth.login.b.allow", "anna"), ("auth.login.anna.password", "")]),
        ["option `auth.login.anna.password`: the value is empty: everyone would know it"]
    );
}

#[test]
fn a_user_of_another_subvolume_is_no_user_of_this_one() {
    let options = [
        ("auth.login.b.allow", "anna"),
        ("auth.login.c.allow", "bert"),
        ("auth.login.anna.password", "secret"),
        ("auth.login.bert.password", "secret"),
    ];
    assert!(log_in(&auth(&options), &at("10.0.0.1"), "bert", "secret").is_err());
}

#[test]
fn a_login_without_users_counts_for_nothing_and_harms_nobody() {
    log_in(&auth(&[("auth.addr.b.allow", "*")]), &at("10.0.0.1"), "anna", "x").unwrap();
    let refusal = log_in(&auth(&[("auth.addr.b.allow", "::1")]), &at("10.0.0.1"), "anna", "x").unwrap_err();
    assert!(refusal.log.ends_with("its login counts for nothing without `auth.login.b.allow`"), "{}", refusal.log);
}

#[test]
fn listed_certificates_are_let_in_and_all_others_refused_from_any_address() {
    let options =
        [TLS, ("auth.addr.b.allow", "*"), ("auth.ssl-allow", "web-1,web-2"), ("auth.login.b.ssl-allow", "backup")];
    let auth = auth(&options);
    for name in ["web-1", "web-2", "backup"] {
        come(&auth, &certified(name)).unwrap();
    }
    let refusal = come(&auth, &certified("web-3")).unwrap_err();
    assert_eq!(refusal.log, "certificate `web-3` is not in the `ssl-allow` of `b`");
    assert_eq!(refusal.told, "this certificate may not have `b`");
    let refusal = come(&auth, &at("10.0.0.1")).unwrap_err();
    assert_eq!(refusal.told, "`b` is for clients with a certificate");
}

#[test]
fn a_star_lets_in_every_certificate_that_was_checked_but_nobody_without() {
    let auth = auth(&[TLS, ("auth.ssl-allow", "*")]);
    come(&auth, &certified("anyone")).unwrap();
    assert!(come(&auth, &at("10.0.0.1")).is_err());
}

#[test]
fn a_certificate_of_a_users_name_is_not_its_password() {
    let auth = auth(&[TLS, ("auth.login.b.allow", "web-1"), ("auth.login.web-1.password", "secret")]);
    assert!(come(&auth, &certified("web-1")).is_err());
    log_in(&auth, &certified("web-1"), "web-1", "secret").unwrap();
}

#[test]
fn a_certificate_alone_lets_nobody_in() {
    assert!(come(&auth(&[TLS, ("auth.addr.b.allow", "::1")]), &certified("web-1")).is_err());
}

#[test]
fn every_mistake_is_named_at_once_and_no_password_shown() {
    assert_eq!(
        refused(&[
            ("auth.addr.b.allow", "brick-1"),
            ("auth.addr.b.reject", ""),
            ("auth.login.b.allow", "anna,bert"),
            ("auth.login.bert.password", "secret"),
            ("auth.ssl-allow", "web-1"),
        ]),
        [
            "option `auth.addr.b.allow`: `brick-1` has `brick-1`, which is neither an address nor a network nor a pattern; \
             host names are not looked up",
            "option `auth.addr.b.reject`: `` names nobody; `*` is everyone",
            "option `auth.ssl-allow`: needs `transport.socket.ssl-enabled on`: nobody shows a certificate without it",
            "option `auth.login.anna.password`: is required, since user `anna` is let in",
        ]
    );
}

#[test]
fn no_debug_output_has_a_password() {
    let auth = auth(&[("auth.login.b.allow", "anna"), ("auth.login.anna.password", "hunter2")]);
    assert!(!format!("{auth:?}").contains("hunter2"));
    assert!(SPECS.iter().any(|spec| spec.matches("auth.login.anna.password") && spec.secret));
}

#[test]
fn the_names_of_bricks_may_be_paths_with_dots() {
    let options = OptionMap::from_iter([("auth.addr./bricks/b.1.allow", "*")]);
    let auth = Auth::from_options("/bricks/b.1", &options).unwrap();
    come(&auth, &at("10.0.0.1")).unwrap();
    assert_eq!(strays(&["/bricks/b.1"], &options), [""; 0]);
}

#[test]
fn options_that_name_nothing_are_reported() {
    let options = OptionMap::from_iter([
        ("auth.addr.b.allow", "*"),
        ("auth.addr.bb.allow", "*"),
        ("auth.login.b.allow", "anna"),
        ("auth.login.anna.password", "secret"),
        ("auth.login.anne.password", "secret"),
        ("auth.ssl-allow", "*"),
    ]);
    assert_eq!(
        strays(&["b"], &options),
        [
            "`auth.addr.bb.allow` is read by nobody: no subvolume is called `bb`",
            "`auth.login.anne.password` is read by nobody: user `anne` is in no `auth.login.*.allow`",
        ]
    );
}

#[test]
fn a_long_name_is_cut_in_the_log() {
    assert_eq!(for_people(&"x".repeat(64)), "x".repeat(64));
    assert_eq!(for_people(&"x".repeat(65)), format!("{}…", "x".repeat(64)));
}

#[test]
fn a_peer_is_shown_with_its_certificate() {
    assert_eq!(certified("web-1").to_string(), "10.0.0.1 (certificate `web-1`)");
    assert_eq!(at("::ffff:10.0.0.1").to_string(), "10.0.0.1");
    assert_eq!(Peer::at(PeerAddr::Unix).to_string(), "unix socket");
}
