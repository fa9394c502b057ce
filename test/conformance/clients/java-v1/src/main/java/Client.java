import com.amazonaws.auth.AWSCredentials;
import com.amazonaws.auth.AWSSessionCredentials;
import com.amazonaws.auth.InstanceProfileCredentialsProvider;
import com.amazonaws.regions.InstanceMetadataRegionProvider;
import com.amazonaws.util.VersionInfoUtils;
import java.io.BufferedReader;
import java.io.InputStreamReader;

/**
 * The AWS SDK for Java v1, out of support and still in use: InstanceProfileCredentialsProvider in default settings. Commands on stdin, an
 * answer in JSON on stdout for each.
 */
public final class Client {
    public static void main(String[] args) throws Exception {
        say("ready", "aws-java-sdk-core " + VersionInfoUtils.getVersion());
        InstanceProfileCredentialsProvider held = null;
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                if (line.equals("region")) {
                    say("region", new InstanceMetadataRegionProvider().getRegion());
                } else {
                    if (held == null || line.equals("credentials")) {
                        held = new InstanceProfileCredentialsProvider(false);
                    } else if (line.equals("again")) {
                        held.refresh();
                    }
                    AWSCredentials keys = held.getCredentials();
                    say("accessKeyId", keys.getAWSAccessKeyId(), "secretAccessKey", keys.getAWSSecretKey(), "token", ((AWSSessionCredentials) keys).getSessionToken());
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
