import java.io.BufferedReader;
import java.io.InputStreamReader;
import software.amazon.awssdk.auth.credentials.AwsCredentials;
import software.amazon.awssdk.auth.credentials.AwsSessionCredentials;
import software.amazon.awssdk.auth.credentials.InstanceProfileCredentialsProvider;
import software.amazon.awssdk.core.util.VersionInfo;
import software.amazon.awssdk.regions.providers.InstanceProfileRegionProvider;

/** The AWS SDK for Java v2: InstanceProfileCredentialsProvider in default settings. Commands on stdin, an answer in JSON on stdout for each. */
public final class Client {
    public static void main(String[] args) throws Exception {
        say("ready", "aws-sdk-java-v2 " + VersionInfo.SDK_VERSION);
        InstanceProfileCredentialsProvider held = null;
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                if (line.equals("region")) {
                    say("region", new InstanceProfileRegionProvider().getRegion().id());
                } else {
                    // A provider keeps its credentials for minutes whatever happens, so asking again takes a new one, unless that is the question.
                    if (held == null || !line.equals("held")) {
                        held = InstanceProfileCredentialsProvider.create();
                    }
                    AwsCredentials keys = held.resolveCredentials();
                    say("accessKeyId", keys.accessKeyId(), "secretAccessKey", keys.secretAccessKey(), "token", ((AwsSessionCredentials) keys).sessionToken());
                }
            } catch (Exception error) {
                say("error", error.getClass().getSimpleName() + ": " + error.getMessage());
            }
        }
    }

    private static void say(String... pairs) {
        StringBuilder json = new StringBuilder("{");
        for (int i = 0; i < pairs.length; i += 2) {
            json.append(i == 0 ? "" : ",").append('"').append(pairs[i]).append("\":\"").append(String.valueOf(pairs[i + 1]).replaceAll("[\"\\\\\\p{Cntrl}]", "'")).append('"');
        }
        System.out.println(json.append('}'));
        System.out.flush();
    }
}
