# The AWS SDK for Ruby: Aws::InstanceProfileCredentials in default settings. Commands on stdin, an answer in JSON on stdout for each.
require "json"
require "aws-sdk-core"
$stdout.sync = true
puts JSON.generate(ready: "aws-sdk-core #{Aws::CORE_GEM_VERSION}")
# This version takes the host from AWS_EC2_METADATA_SERVICE_ENDPOINT, and the port from an option only.
endpoint = ENV.fetch("AWS_EC2_METADATA_SERVICE_ENDPOINT")
port = URI(endpoint).port
held = nil
while (line = $stdin.gets)
  begin
    if line.strip == "region"
      answer = { region: Aws::EC2Metadata.new(endpoint: endpoint, port: port).get("/latest/meta-data/placement/region") }
    else
      if held.nil? || line.strip == "credentials"
        held = Aws::InstanceProfileCredentials.new(port: port)
      elsif line.strip == "again"
        held.refresh!
      end
      keys = held.credentials
      answer = if keys&.access_key_id
                 { accessKeyId: keys.access_key_id, secretAccessKey: keys.secret_access_key, token: keys.session_token }
               else
                 { error: "no credentials" }
               end
    end
  rescue StandardError => e
    answer = { error: "#{e.class}: #{e.message}" }
  end
  puts JSON.generate(answer)
end
