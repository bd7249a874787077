super::promises! {}
