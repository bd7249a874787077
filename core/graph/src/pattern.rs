//! Shell patterns on names, as `fnmatch(3)` without flags for paths: `*`, `?`, `[a-z]`, `[!a-z]`.
//!
//! A backslash is an ordinary character, and `*` also stands for `/` and `.`: volume names may be brick paths.

/// Whether all of `name` fits `pattern`. Takes time of at most the product of both lengths.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    if !pattern.contains(['*', '?', '[']) {
        return pattern == name;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: one character further in the name.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, n));
            p += 1;
        } else if let Some(next) = one(&pattern, p, name[n]) {
            p = next;
            n += 1;
        } else if let Some((after_star, from)) = retry {
            retry = Some((after_star, from + 1));
            p = after_star;
            n = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The place in the pattern after the element at `p`, if that element fits `c`.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => match class(&pattern[p..], c) {
            Some((fits, len)) => fits.then_some(p + len),
            None => (c == '[').then_some(p + 1),
        },
        own => (*own == c).then_some(p + 1),
    }
}

/// Whether `c` is in the class that `pattern` begins with, and the length of the class; `None` if it is not closed.
fn class(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    // A `]` right at the start is a member.
    let end = start + 1 + pattern.get(start + 1..)?.iter().position(|c| *c == ']')?;
    let members = &pattern[start..end];
    let mut found = false;
    let mut at = 0;
    while at < members.len() {
        if members.get(at + 1) == Some(&'-') && at + 2 < members.len() {
            found |= (members[at]..=members[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= members[at] == c;
            at += 1;
        }
    }
    Some((found != negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything_also_slashes_and_dots() {
        assert!(matches("*", ""));
        assert!(matches("*dht", "fixa-dht"));
        assert!(matches("/bricks*", "/bricks/a.b/c"));
        assert!(matches("a*b*c", "a-b-b-c"));
        assert!(!matches("a*b", "a-b-c"));
        assert!(!matches("*dht", "dht-0"));
    }

    #[test]
    fn a_question_mark_and_a_class_stand_for_one_character() {
        assert!(matches("client-?", "client-3"));
        assert!(!matches("client-?", "client-13"));
        assert!(matches("client-[0-4]", "client-3"));
        assert!(matches("client-[!0-4]", "client-7"));
        assert!(!matches("client-[!0-4]", "client-3"));
        assert!(matches("[]]", "]"));
        assert!(matches("a[b", "a[b"));
    }

    #[test]
    fn many_stars_do_not_take_long() {
        let pattern = "*a".repeat(40);
        assert!(!matches(&pattern, &"a".repeat(39)));
        assert!(!matches(&(pattern + "b"), &"a".repeat(4000)));
    }
}
