//! Entering a connection: welcome, token, login, whichever of them the route wants.

use super::{Entry, Session};
use crate::record::{ConnectionState, Reason, UNDEF_I64};
use crate::session::subscriptions::expand;
use crate::session::types::{Connection, Out, Wish};

impl Session {
    /// Takes the next step of entering: token, welcome, login, whichever of them the route wants.
    pub(super) fn enter(&mut self, connection: Connection, out: &mut Out) {
        let route = &self.plan.routes[connection as usize];
        let link = &mut self.links[connection as usize];
        if link.state != ConnectionState::Authenticating {
            return;
        }
        let entry = &mut link.entry;
        let wants_token = route.needs_token || route.login.as_deref().is_some_and(|text| text.contains("{token}"));
        if wants_token && !entry.token_asked {
            entry.token_asked = true;
            out.wishes.push(Wish::Token { connection });
        }
        if (wants_token && entry.token.is_none()) || (route.waits_for_welcome && !entry.welcomed) {
            return;
        }
        if let Some(login) = route.login.as_deref().filter(|_| !entry.authenticated) {
            if entry.login_sent {
                return;
            }
            entry.login_sent = true;
            let (text, redacted) = self.with_token(connection, login, |_| None);
            return self.send(connection, text, redacted, out);
        }
        self.go(connection, ConnectionState::Subscribing, Reason::Acknowledged, UNDEF_I64, &[], out);
    }

    /// A template with its token, and without it for the journal where it holds one.
    pub(in crate::session) fn with_token<'a>(
        &self,
        connection: Connection,
        template: &str,
        mut value: impl FnMut(&str) -> Option<std::borrow::Cow<'a, str>>,
    ) -> (String, Option<String>) {
        let token = self.links[connection as usize].token();
        let text = expand(template, |name| if name == "token" { Some(token.into()) } else { value(name) });
        let secret = template.contains("{token}");
        let redacted = secret.then(|| expand(template, |name| if name == "token" { None } else { value(name) }));
        (text, redacted)
    }

    pub(in crate::session) fn on_welcome(&mut self, connection: Connection, authenticated: bool, out: &mut Out) {
        let entry = &mut self.links[connection as usize].entry;
        entry.welcomed = true;
        entry.authenticated |= authenticated;
        self.enter(connection, out);
    }

    pub(in crate::session) fn on_token(
        &mut self,
        connection: Connection,
        token: Option<String>,
        detail: &str,
        out: &mut Out,
    ) {
        let Some(link) = self.links.get_mut(connection as usize) else { return };
        if link.state != ConnectionState::Authenticating || link.entry.token.is_some() {
            return;
        }
        match token {
            Some(token) => {
                link.entry.token = Some(token);
                self.enter(connection, out);
            }
            None => self.close(connection, Reason::AuthFailed, detail.as_bytes(), out),
        }
    }

    /// A token was refused or ran out. Once it is renewed on the connection; refused again without having been good, the
    /// connection is made anew after a back-off.
    pub(in crate::session) fn on_auth_failed(&mut self, connection: Connection, text: &[u8], out: &mut Out) {
        let link = &mut self.links[connection as usize];
        // A token that is refused as soon as it was taken is not proven, however often the venue takes it.
        let least = self.plan.timing.backoff_first;
        let proven = link.live_since.is_some_and(|since| self.now - since >= least);
        let route = &self.plan.routes[connection as usize];
        if !route.needs_token && route.login.is_none() {
            // There is no token to renew: what was asked for stays unanswered and is dealt with as such.
            return self.on_venue_error(connection, text, out);
        }
        if link.entry.renewed && !proven {
            return self.close(connection, Reason::AuthFailed, text, out);
        }
        let welcomed = link.entry.welcomed;
        link.entry = Entry { welcomed, renewed: true, ..Entry::default() };
        let reason = if link.live_since.is_some() { Reason::TokenExpired } else { Reason::AuthFailed };
        if link.state == ConnectionState::Authenticating {
            self.tell_connection(connection, reason, UNDEF_I64, text, out);
        } else {
            if link.state == ConnectionState::Stale {
                self.revive(connection, out);
            }
            self.go(connection, ConnectionState::Authenticating, reason, UNDEF_I64, text, out);
            self.forget_token_subscriptions(connection, reason, out);
        }
        self.links[connection as usize].live_since = None;
        self.enter(connection, out);
    }
}
