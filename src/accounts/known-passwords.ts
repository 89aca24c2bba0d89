/**
 * Passwords that everybody knows. Whole passwords are compared, without regard to case: a known word inside a long one
 * does no harm. Source: NIST SP 800-63B-4 section 3.1.1.2.
 */

/** Words people begin with; with the endings below they give some thousand well-known passwords. */
const WORDS =
  'password passw0rd p@ssword p@ssw0rd pass1234 welcome letmein admin administrator changeme secret master login ' +
  'qwerty qwertyuiop qwertyuiopasdfghjkl asdfghjkl asdfghjklzxcvbnm zxcvbnm 1q2w3e4r 1q2w3e4r5t 1qaz2wsx q1w2e3r4 ' +
  'q1w2e3r4t5y6 1qaz2wsx3edc 1qaz2wsx3edc4rfv qazwsxedc qazwsxedcrfv abc123 abcd1234 abcdefghijklmno iloveyou ' +
  'iloveyouforever sunshine princess dragon monkey football baseball superman batman trustno1 shadow michael ' +
  'jennifer charlie whatever starwars computer internet freedom summer winter spring autumn monday friday ' +
  'january december testtest testing test1234 guest root toor user default company office server database ' +
  'hello helloworld hunter2 correcthorsebatterystaple thisisapassword thisismypassword mypassword yourpassword ' +
  'newpassword oldpassword passwordpassword passwordpassword1 adminadmin adminadminadmin welcomewelcome ' +
  'changemechangeme pleasechangeme letmeinletmein letmeinplease opensesame secretpassword supersecret ' +
  'supersecretpassword topsecretpassword qwertyqwerty qwertyqwertyqwerty asdfasdfasdfasdf zxcvzxcvzxcvzxcv ' +
  'jwtsecret averylongpassword areallylongpassword averysecurepassword verysecurepassword';
const ENDINGS =
  ' ! 1 1! 12 12! 123 123! 1234 1234! 12345 12345! 123456 123456! 1234567 12345678 123456789 1234567890 @123 ' +
  '#1 01 007 2020 2021 2022 2023 2024 2025 2026 2024! 2025! 2026! !! !@# !@#$ ?';

const known: ReadonlySet<string> = new Set(
  WORDS.split(' ').flatMap((word) => ENDINGS.split(' ').map((ending) => word + ending)),
);

const RUNS = [
  'abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz',
  '012345678901234567890123456789012345678901234567890123456789',
  'qwertyuiopasdfghjklzxcvbnmqwertyuiopasdfghjklzxcvbnm',
  'qwertyuiop[]asdfghjkl;zxcvbnm,./',
];

/** The shortest part whose repetition gives the text. */
function unitOf(text: string): string {
  const at = (text + text).indexOf(text, 1);
  return text.slice(0, at);
}

const backwards = (text: string): string => [...text].reverse().join('');

/**
 * True for a known password, a run of the keyboard or the alphabet, a few characters or a known password said again
 * and again, and what is told of the account itself.
 */
export function isKnownPassword(password: string, personal: readonly string[]): boolean {
  const plain = password.normalize('NFC').toLowerCase();
  const unit = unitOf(plain);
  const isOwn = personal.some((word) => word !== '' && unit === word.toLowerCase());
  if (isOwn || unit.length <= 4 || isListed(plain) || isListed(unit)) return true;
  return RUNS.some((run) => run.includes(plain) || backwards(run).includes(plain));
}

const isListed = (text: string): boolean => known.has(text) || known.has(backwards(text));

/** How many whole passwords the list has. */
export const KNOWN_PASSWORDS = known.size;
