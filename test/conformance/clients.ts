import { access } from "node:fs/promises";
import { join } from "node:path";

/** A program that asks for credentials with one SDK in its default settings; see `clients/`. */
export type Client = {
  readonly name: string;
  readonly command: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Knows IMDSv1 only. */
  readonly v1?: boolean;
  /** Added to the address: some versions put the path right behind it. */
  readonly ending?: string;
  /** What it does otherwise than it should, and would on EC2 as well: case -> why. */
  readonly known?: Readonly<Record<string, string>>;
  /** How its calls to STS begin, where it shows no keys. */
  readonly userAgent?: string;
  /** It goes on with expired keys and asks for new ones so much later, and would on EC2 as well. */
  readonly renewsLateBySeconds?: number;
  /** Files without which it cannot run. */
  readonly needs: readonly string[];
};

const sources = join(import.meta.dirname, "clients");

/** Tried with a page, an empty body and the service's own refusal, with 200 and 503. */
const crtAborts =
  "it aborts the process on any answer without keys, whatever its status and form (`Fatal error condition` in auth_credentials.c)";

/** @param folder where scripts/test-sdks installed and built them */
export function clientsIn(folder: string): readonly Client[] {
  const source = (...path: readonly string[]) => join(sources, ...path);
  const built = (...path: readonly string[]) => join(folder, ...path);
  const java = built("java-v2", "target");
  const java1 = built("java-v1", "target");
  return [
    {
      name: "botocore (newest)",
      command: [built("boto3", "bin", "python3"), source("boto3", "client.py")],
      renewsLateBySeconds: 600,
      needs: [built("boto3", "bin", "python3")],
    },
    {
      name: "botocore (Debian)",
      command: ["/usr/bin/python3", source("boto3", "client.py")],
      renewsLateBySeconds: 600,
      needs: ["/usr/lib/python3/dist-packages/boto3"],
    },
    {
      name: "AWS CLI (Debian)",
      command: ["/bin/sh", source("aws-cli", "client.sh")],
      needs: ["/usr/bin/aws"],
      ending: "/",
      userAgent: "aws-cli/",
    },
    { name: "JavaScript v3", command: [process.execPath, source("js-v3", "client.ts")], needs: [] },
    {
      name: "JavaScript v2",
      command: [process.execPath, source("js-v2", "client.cjs")],
      environment: { SDK_FOLDER: built("js-v2") },
      known: {
        "IAM refuses":
          "it ignores `Code`, takes the refusal for credentials without keys, and its refresh never ends",
      },
      needs: [built("js-v2", "node_modules", "aws-sdk")],
    },
    { name: "Go v2", command: [built("go-v2", "client")], needs: [built("go-v2", "client")] },
    { name: "Go v1", command: [built("go-v1", "client")], needs: [built("go-v1", "client")] },
    {
      name: "Java v2",
      command: ["java", "-cp", `${join(java, "classes")}:${join(java, "dependency", "*")}`, "Client"],
      needs: [join(java, "classes", "Client.class"), join(java, "dependency")],
    },
    {
      name: "Java v1",
      command: ["java", "-cp", `${join(java1, "classes")}:${join(java1, "dependency", "*")}`, "Client"],
      renewsLateBySeconds: 65,
      needs: [join(java1, "classes", "Client.class"), join(java1, "dependency")],
    },
    {
      name: "Rust",
      command: [built("rust", "target", "release", "client")],
      userAgent: "aws-sdk-rust/",
      needs: [built("rust", "target", "release", "client")],
    },
    {
      name: "CRT (C)",
      command: [built("crt", "bin", "python3"), source("crt", "client.py")],
      environment: { REDIRECT: built("crt", "redirect.so") },
      known: { "IAM refuses": crtAborts, "STS fails": crtAborts, "STS is back": crtAborts },
      needs: [built("crt", "bin", "python3"), built("crt", "redirect.so")],
    },
    {
      name: "C++ (pyarrow)",
      command: [built("cpp", "bin", "python3"), source("cpp", "client.py")],
      renewsLateBySeconds: 300,
      environment: { REDIRECT: built("crt", "redirect.so") },
      needs: [built("cpp", "bin", "python3"), built("crt", "redirect.so")],
    },
    {
      name: "Ruby (Debian)",
      command: ["/usr/bin/ruby", source("ruby", "client.rb")],
      needs: ["/usr/bin/ruby", "/usr/share/rubygems-integration/all/gems"],
    },
    {
      name: "boto 2 (IMDSv1)",
      command: ["/usr/bin/python3", source("boto2", "client.py")],
      needs: ["/usr/lib/python3/dist-packages/boto"],
      v1: true,
    },
  ];
}

/** What it lacks to be run here; undefined if nothing. */
export async function lacking({ needs }: Client): Promise<string | undefined> {
  for (const file of needs)
    if (
      !(await access(file).then(
        () => true,
        () => false,
      ))
    )
      return file;
  return undefined;
}
