"""Interface messages (生产接口消息): keeping them, and carrying out again what they stand for."""
